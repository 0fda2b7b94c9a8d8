// Everything that is done with bytes from outside, done to any bytes: for the fuzzer and for its corpus.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/envelope.hpp"
#include "core/redis_url.hpp"
#include "tier/seal.hpp"

namespace prompt_cache::test {

inline void demand(bool good) {
    if (!good) std::abort();
}

inline SealKey key_of(char byte) {
    SealKey key;
    demand(derive_seal_key(std::string(SealKey::kSecretBytes, byte), key));
    return key;
}

inline constexpr std::size_t kLargestValue = 1 << 20;

// Written again, a parsed envelope is the same bytes, but for what the seal fills in.
inline void must_round_trip(const std::string& bytes, const core::EnvelopeSeal& seal,
                            const core::Envelope& envelope) {
    demand(core::envelope_size(envelope) == bytes.size());
    std::string again(bytes.size(), '\0');
    core::write_envelope(envelope, seal, again.data());
    const std::size_t body = core::Envelope::kHeaderBytes;
    const std::size_t end = bytes.size() - core::Envelope::kTrailerBytes;
    demand(bytes.compare(0, core::Envelope::kNonceOffset, again, 0, core::Envelope::kNonceOffset) == 0);
    demand(bytes.compare(body, end - body, again, body, end - body) == 0);
}

// Any bytes: as they come, and with the seal taken off the way.
inline void probe_envelope(const std::uint8_t* data, std::size_t size) {
    // A copy of exactly this size, so that one byte beyond it is an error.
    std::vector<char> exact(data, data + size);
    const std::string_view bytes{exact.data(), exact.size()};
    core::RedisUrl url;
    core::parse_redis_url(bytes, url);

    core::EnvelopeTags tags;
    core::Envelope envelope;
    core::EnvelopeSeal seal;
    if (core::read_body(bytes, kLargestValue, tags, envelope) == core::EnvelopeFault::kNone) {
        demand(envelope.raw_length <= kLargestValue && envelope.stored.size() <= envelope.raw_length);
        if (core::read_header(bytes, seal) == core::EnvelopeFault::kNone)
            must_round_trip(std::string(bytes), seal, envelope);
    }
    if (core::read_header(bytes, seal) != core::EnvelopeFault::kNone) return;
    for (const SealKey& key : {SealKey{}, key_of('k')}) {
        std::vector<char> opened(exact);
        if (open_envelope(key, seal, "context", opened) != SealFault::kNone) continue;
        core::read_body({opened.data(), opened.size()}, kLargestValue, tags, envelope);
    }
}

}  // namespace prompt_cache::test
