// Envelopes: what is written is read again, and everything else is refused.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "envelope_probe.hpp"

namespace {

namespace core = prompt_cache::core;
using core::Envelope;
using core::EnvelopeFault;
using core::EnvelopeSeal;
using core::EnvelopeTags;
using core::StampedTag;
using prompt_cache::derive_seal_key;
using prompt_cache::hide_name;
using prompt_cache::kHiddenNameBytes;
using prompt_cache::open_envelope;
using prompt_cache::seal_envelope;
using prompt_cache::seal_of;
using prompt_cache::SealFault;
using prompt_cache::SealKey;
using prompt_cache::test::key_of;
using prompt_cache::test::kLargestValue;

// An envelope that owns what it is made of.
struct Sample {
    std::vector<StampedTag> tags{{0x1234567890abcdefu, 3, -77}, {~std::uint64_t{0}, -1, 42}};
    std::string space = "user", key = "42", pointer = "7", value = "Call me Ada.";
    core::Packing packing = core::Packing::kPlain;
    std::uint32_t raw_length = 0;

    std::string bytes(const EnvelopeSeal& seal = {}) const {
        Envelope envelope;
        envelope.created = 1700000000000000;
        envelope.expires = 1700001800000000;
        envelope.raw_length = raw_length ? raw_length : static_cast<std::uint32_t>(value.size());
        envelope.packing = packing;
        envelope.flags = 3;
        envelope.space = space;
        envelope.key = key;
        envelope.pointer = pointer;
        envelope.stored = value;
        envelope.tags = tags;
        std::string bytes(core::envelope_size(envelope), '?');
        core::write_envelope(envelope, seal, bytes.data());
        return bytes;
    }
    std::string sealed(const SealKey& key, std::string_view context = "context") const {
        std::string sealed = bytes(seal_of(key));
        EXPECT_TRUE(seal_envelope(key, context, sealed));
        return sealed;
    }
};

// Opened and parsed.
struct Opened {
    EnvelopeTags tags;
    Envelope envelope;
    EnvelopeFault fault = EnvelopeFault::kNone;
    SealFault seal_fault = SealFault::kNone;
    bool good = false;

    Opened(const SealKey& key, std::string& bytes, std::string_view context = "context") {
        EnvelopeSeal seal;
        fault = core::read_header(bytes, seal);
        if (fault != EnvelopeFault::kNone) return;
        seal_fault = open_envelope(key, seal, context, bytes);
        if (seal_fault != SealFault::kNone) return;
        fault = core::read_body(bytes, kLargestValue, tags, envelope);
        good = fault == EnvelopeFault::kNone;
    }
};

std::vector<SealKey> all_keys() {
    return {SealKey{}, key_of('k')};
}

TEST(Envelope, IsReadAsItWasWritten) {
    for (const SealKey& key : all_keys()) {
        for (const std::size_t value_bytes : {0u, 1u, 12u, 5000u, 1u << 20}) {
            Sample sample;
            sample.value.assign(value_bytes, 'v');
            sample.tags.resize(value_bytes % 65);
            std::string bytes = sample.sealed(key);
            const Opened opened(key, bytes);
            ASSERT_TRUE(opened.good);
            EXPECT_EQ(opened.envelope.created, 1700000000000000);
            EXPECT_EQ(opened.envelope.expires, 1700001800000000);
            EXPECT_EQ(opened.envelope.flags, 3);
            EXPECT_EQ(opened.envelope.space, "user");
            EXPECT_EQ(opened.envelope.key, "42");
            EXPECT_EQ(opened.envelope.pointer, "7");
            EXPECT_TRUE(opened.envelope.stored == sample.value);
            EXPECT_TRUE(std::ranges::equal(opened.envelope.tags, sample.tags));
        }
    }
}

TEST(Envelope, EncryptedShowsNothing) {
    Sample sample;
    sample.key = "secret key";
    sample.value = "secret value";
    const std::string plain = sample.sealed(SealKey{});
    const std::string hidden = sample.sealed(key_of('k'));
    EXPECT_NE(plain.find("secret value"), plain.npos);
    EXPECT_EQ(hidden.find("secret"), hidden.npos);
    EXPECT_EQ(hidden.find("user"), hidden.npos);
    EXPECT_NE(hidden, sample.sealed(key_of('k'))) << "a nonce is used once";
}

TEST(Envelope, EverySingleBitFlipIsRefused) {
    for (const SealKey& key : all_keys()) {
        const std::string whole = Sample{}.sealed(key);
        for (std::size_t bit = 0; bit < whole.size() * 8; bit++) {
            std::string flipped = whole;
            flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
            EXPECT_FALSE(Opened(key, flipped).good) << "bit " << bit;
        }
    }
}

TEST(Envelope, EveryTruncationAndExtensionIsRefused) {
    for (const SealKey& key : all_keys()) {
        const std::string whole = Sample{}.sealed(key);
        for (std::size_t length = 0; length < whole.size(); length++) {
            std::string cut = whole.substr(0, length);
            EXPECT_FALSE(Opened(key, cut).good) << length;
        }
        std::string longer = whole + '\0';
        EXPECT_FALSE(Opened(key, longer).good);
    }
}

TEST(Envelope, BelongsToItsContextAndKey) {
    for (const SealKey& key : all_keys()) {
        std::string bytes = Sample{}.sealed(key, "server 1, user 42");
        std::string copy = bytes;
        EXPECT_EQ(Opened(key, copy, "server 1, user 43").seal_fault, SealFault::kBroken);
        copy = bytes;
        EXPECT_EQ(Opened(key_of('x'), copy, "server 1, user 42").seal_fault, SealFault::kOtherKey);
    }
    std::string plain = Sample{}.sealed(SealKey{});
    EXPECT_EQ(Opened(key_of('k'), plain).seal_fault, SealFault::kOtherKey)
        << "who has a key takes nothing unsealed";
    std::string sealed = Sample{}.sealed(key_of('k'));
    EXPECT_EQ(Opened(SealKey{}, sealed).seal_fault, SealFault::kOtherKey);
}

TEST(Envelope, OtherFormatsAreToldApart) {
    std::string bytes = Sample{}.sealed(SealKey{});
    bytes[4] = 2;
    EXPECT_EQ(Opened(SealKey{}, bytes).fault, EnvelopeFault::kVersion);
    bytes[0] = 'X';
    EXPECT_EQ(Opened(SealKey{}, bytes).fault, EnvelopeFault::kMagic);
    bytes = "short";
    EXPECT_EQ(Opened(SealKey{}, bytes).fault, EnvelopeFault::kShort);
}

// What a forger without a key to reckon with could write: sealed well, and wrong inside.
TEST(Envelope, LimitsHoldBehindAGoodSeal) {
    const auto fault_of = [](const Sample& sample) {
        std::string bytes = sample.sealed(SealKey{});
        return Opened(SealKey{}, bytes).fault;
    };
    Sample sample;
    EXPECT_EQ(fault_of(sample), EnvelopeFault::kNone);
    sample.raw_length = 11;
    EXPECT_EQ(fault_of(sample), EnvelopeFault::kForm) << "plain, and of another length";
    sample.packing = core::Packing::kPglz;
    EXPECT_EQ(fault_of(sample), EnvelopeFault::kForm) << "packed, and larger for it";
    sample.raw_length = 13;
    EXPECT_EQ(fault_of(sample), EnvelopeFault::kNone);
    sample.raw_length = kLargestValue;
    EXPECT_EQ(fault_of(sample), EnvelopeFault::kNone);
    sample.raw_length = kLargestValue + 1;
    EXPECT_EQ(fault_of(sample), EnvelopeFault::kForm);
    sample.raw_length = 0xffffffff;
    EXPECT_EQ(fault_of(sample), EnvelopeFault::kForm);
    sample = {};
    sample.tags.resize(65);
    EXPECT_EQ(fault_of(sample), EnvelopeFault::kForm);
    sample = {};
    sample.key.assign(1025, 'k');
    EXPECT_EQ(fault_of(sample), EnvelopeFault::kForm);
    sample = {};
    sample.space.assign(256, 's');
    EXPECT_EQ(fault_of(sample), EnvelopeFault::kForm);
    sample = {};
    sample.pointer.assign(1025, 'p');
    EXPECT_EQ(fault_of(sample), EnvelopeFault::kForm);
}

TEST(Envelope, RandomBytesBehindAGoodSealAreParsedWithinBounds) {
    std::mt19937 random(1);
    int parsed = 0;
    for (int round = 0; round < 20000; round++) {
        std::string bytes = Sample{}.bytes();
        for (int change = 0; change < 1 + round % 4; change++)
            bytes[random() % bytes.size()] = static_cast<char>(random() % 3 ? random() : 0);
        ASSERT_TRUE(seal_envelope(SealKey{}, "context", bytes));
        Opened opened(SealKey{}, bytes);
        parsed += opened.good;
    }
    EXPECT_GT(parsed, 0);
    EXPECT_LT(parsed, 20000);
}

TEST(Envelope, CorpusOfTheFuzzerIsHandled) {
    int files = 0;
    const auto folder = std::filesystem::path(__FILE__).parent_path() / "corpus_envelope";
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
        std::ifstream stream(file.path(), std::ios::binary);
        const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
        prompt_cache::test::probe_envelope(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
        files++;
    }
    EXPECT_GT(files, 10);
}

TEST(Seal, NamesAreHiddenByAKey) {
    std::array<char, kHiddenNameBytes> a, b;
    EXPECT_EQ(hide_name(SealKey{}, 0x2au, a), "000000000000002a");
    EXPECT_EQ(hide_name(key_of('k'), 42, a).size(), kHiddenNameBytes);
    EXPECT_EQ(hide_name(key_of('k'), 42, a), hide_name(key_of('k'), 42, b));
    EXPECT_NE(hide_name(key_of('k'), 42, a), hide_name(key_of('k'), 43, b));
    EXPECT_NE(hide_name(key_of('k'), 42, a), hide_name(key_of('x'), 42, b));
}

TEST(Seal, ASecretHas32Bytes) {
    SealKey key;
    EXPECT_FALSE(derive_seal_key(std::string(31, 'k'), key));
    EXPECT_FALSE(derive_seal_key(std::string(33, 'k'), key));
    EXPECT_FALSE(key.present);
    EXPECT_TRUE(derive_seal_key(std::string(32, 'k'), key));
    EXPECT_NE(key.value, key.name);
}

}  // namespace
