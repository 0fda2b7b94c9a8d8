#include "core/envelope.hpp"

#include <cstring>

namespace prompt_cache::core {

namespace {

constexpr std::string_view kMagic = "pcRv";
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kFixedBytes = 36;  // of the body, before the tags
constexpr std::size_t kTagBytes = 24;

class Writer {
  public:
    explicit Writer(char* to) noexcept : at_(to) {}

    template <typename Number>
    void number(Number value) noexcept {
        for (std::size_t i = 0; i < sizeof(Number); i++)
            *at_++ = static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i));
    }
    void text(std::string_view bytes) noexcept {
        if (!bytes.empty()) memcpy(at_, bytes.data(), bytes.size());
        at_ += bytes.size();
    }
    void zeros(std::size_t n) noexcept {
        memset(at_, 0, n);
        at_ += n;
    }

  private:
    char* at_;
};

// What lies behind the end reads as nothing and is noticed by good().
class Reader {
  public:
    explicit Reader(std::string_view bytes) noexcept : left_(bytes) {}

    template <typename Number>
    Number number() noexcept {
        const std::string_view bytes = text(sizeof(Number));
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < bytes.size(); i++)
            value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
        return static_cast<Number>(value);
    }
    std::string_view text(std::size_t n) noexcept {
        if (n > left_.size()) {
            good_ = false;
            left_ = {};
            return {};
        }
        const std::string_view bytes{left_.data(), n};
        left_.remove_prefix(n);
        return bytes;
    }
    // Everything was there, and there is nothing else.
    bool good() const noexcept { return good_ && left_.empty(); }
    std::size_t left() const noexcept { return left_.size(); }

  private:
    std::string_view left_;
    bool good_ = true;
};

}  // namespace

std::size_t envelope_size(const Envelope& envelope) noexcept {
    return Envelope::kHeaderBytes + kFixedBytes + envelope.tags.size() * kTagBytes + envelope.space.size() +
           envelope.key.size() + envelope.pointer.size() + envelope.stored.size() + Envelope::kTrailerBytes;
}

void write_envelope(const Envelope& envelope, const EnvelopeSeal& seal, char* to) noexcept {
    Writer writer(to);
    writer.text(kMagic);
    writer.number(kVersion);
    writer.number(static_cast<std::uint8_t>(seal.kind));
    writer.number(std::uint16_t{0});
    writer.number(seal.key_id);
    writer.zeros(Envelope::kNonceBytes);

    writer.number(envelope.created);
    writer.number(envelope.expires);
    writer.number(envelope.raw_length);
    writer.number(static_cast<std::uint32_t>(envelope.stored.size()));
    writer.number(static_cast<std::uint16_t>(envelope.space.size()));
    writer.number(static_cast<std::uint16_t>(envelope.key.size()));
    writer.number(static_cast<std::uint16_t>(envelope.pointer.size()));
    writer.number(static_cast<std::uint16_t>(envelope.tags.size()));
    writer.number(static_cast<std::uint8_t>(envelope.packing));
    writer.number(envelope.flags);
    writer.number(std::uint16_t{0});
    for (const StampedTag& tag : envelope.tags) {
        writer.number(tag.tag);
        writer.number(tag.weight);
        writer.number(tag.nonces);
    }
    writer.text(envelope.space);
    writer.text(envelope.key);
    writer.text(envelope.pointer);
    writer.text(envelope.stored);
    writer.zeros(Envelope::kTrailerBytes);
}

EnvelopeFault read_header(std::string_view bytes, EnvelopeSeal& seal) noexcept {
    if (bytes.size() < Envelope::kHeaderBytes + kFixedBytes + Envelope::kTrailerBytes)
        return EnvelopeFault::kShort;
    Reader reader(bytes);
    if (reader.text(kMagic.size()) != kMagic) return EnvelopeFault::kMagic;
    if (reader.number<std::uint8_t>() != kVersion) return EnvelopeFault::kVersion;
    const auto kind = reader.number<std::uint8_t>();
    const auto spare = reader.number<std::uint16_t>();
    if (kind > static_cast<std::uint8_t>(SealKind::kAes256Gcm) || spare != 0) return EnvelopeFault::kForm;
    seal.kind = static_cast<SealKind>(kind);
    seal.key_id = reader.number<std::uint32_t>();
    return EnvelopeFault::kNone;
}

EnvelopeFault read_body(std::string_view bytes, std::size_t largest_value, EnvelopeTags& tags,
                        Envelope& envelope) noexcept {
    if (bytes.size() < Envelope::kHeaderBytes + kFixedBytes + Envelope::kTrailerBytes)
        return EnvelopeFault::kShort;
    bytes.remove_prefix(Envelope::kHeaderBytes);
    bytes.remove_suffix(Envelope::kTrailerBytes);
    Reader reader(bytes);
    envelope.created = reader.number<std::int64_t>();
    envelope.expires = reader.number<std::int64_t>();
    envelope.raw_length = reader.number<std::uint32_t>();
    const std::size_t stored_length = reader.number<std::uint32_t>();
    const std::size_t space_length = reader.number<std::uint16_t>();
    const std::size_t key_length = reader.number<std::uint16_t>();
    const std::size_t pointer_length = reader.number<std::uint16_t>();
    const std::size_t tag_count = reader.number<std::uint16_t>();
    const auto packing = reader.number<std::uint8_t>();
    envelope.flags = reader.number<std::uint8_t>();
    const auto spare = reader.number<std::uint16_t>();

    if (space_length > Envelope::kMaxSpace || key_length > Envelope::kMaxKey ||
        pointer_length > Envelope::kMaxKey || tag_count > Envelope::kMaxTags ||
        envelope.raw_length > largest_value || spare != 0 ||
        packing > static_cast<std::uint8_t>(Packing::kPglz) ||
        reader.left() != tag_count * kTagBytes + space_length + key_length + pointer_length + stored_length)
        return EnvelopeFault::kForm;
    envelope.packing = static_cast<Packing>(packing);
    // Packed values are smaller than plain ones: nobody would have packed them else.
    if (envelope.packing == Packing::kPlain ? stored_length != envelope.raw_length
                                            : stored_length >= envelope.raw_length)
        return EnvelopeFault::kForm;
    for (std::size_t i = 0; i < tag_count; i++) {
        tags[i].tag = reader.number<std::uint64_t>();
        tags[i].weight = reader.number<std::int64_t>();
        tags[i].nonces = reader.number<std::int64_t>();
    }
    envelope.tags = {tags.data(), tag_count};
    envelope.space = reader.text(space_length);
    envelope.key = reader.text(key_length);
    envelope.pointer = reader.text(pointer_length);
    envelope.stored = reader.text(stored_length);
    return reader.good() ? EnvelopeFault::kNone : EnvelopeFault::kForm;
}

}  // namespace prompt_cache::core
