// Sealing envelopes: AES-256-GCM where there is a key, else a checksum. The one file that uses libcrypto.
//
// The key file holds one secret, from which two keys are derived: one for values, one that hides names, so
// that the names in Redis tell nobody which users there are. The seal also covers a context that is not in
// the bytes: whose cache it is (server, database, incarnation) and which entry. So a value that was moved to
// another name, or another database, is broken. Nonces are 96 random bits, good for 2^32 values a key.
//
// The checksum finds accidents, not forgers: Redis must be trusted then.
//
// No server header, and nothing raises: the same code is tested without a server.
#pragma once

#include "core/envelope.hpp"

namespace prompt_cache {

struct SealKey {
    static constexpr std::size_t kSecretBytes = 32;

    bool present = false;  // without it there is only a checksum
    std::uint32_t id = 0;
    std::array<unsigned char, 32> value{};
    std::array<unsigned char, 32> name{};
};

bool derive_seal_key(std::string_view secret, SealKey& key) noexcept;

// How this key seals: for write_envelope().
core::EnvelopeSeal seal_of(const SealKey& key) noexcept;

// Seals a written envelope in place: nonce, body and trailer.
bool seal_envelope(const SealKey& key, std::string_view context, std::span<char> bytes) noexcept;

enum class SealFault : std::uint8_t {
    kNone,
    kOtherKey,  // sealed by another key, or by none where there is one
    kBroken,    // not what was sealed, or sealed for something else
};

// Opens it in place. `seal` is what its header says.
SealFault open_envelope(const SealKey& key, const core::EnvelopeSeal& seal, std::string_view context,
                        std::span<char> bytes) noexcept;

// The name under which a number is known outside: itself in hex, or what the key makes of it.
inline constexpr std::size_t kHiddenNameBytes = 32;
std::string_view hide_name(const SealKey& key, std::uint64_t number,
                           std::array<char, kHiddenNameBytes>& buffer) noexcept;

}  // namespace prompt_cache
