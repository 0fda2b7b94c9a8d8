// The bytes of a value outside of the server: what it is, whose it is, what proves it.
//
//   header    magic, format version, how it is sealed, which key, nonce          in clear, covered by the
//   seal body      times, lengths, flags, tags with their stamps, space, key, pointer, value      encrypted
//   by a key trailer   the seal: authentication tag, or checksum
//
// Numbers are little-endian. Whoever wrote these bytes is not trusted: nothing is read before its length is
// checked against what is there, every byte has its place, and no length is believed for an allocation
// before it has been compared with a limit. Sealing is not done here (tier/seal.hpp), since that takes a
// library; an envelope whose seal was not opened proves nothing.
//
// `space` is what the key is a key of: a layer, a namespace. `flags` and `pointer` mean what they mean in
// memory (cache/memory.hpp). The tag list of an entry is its own tag, `*`, and whatever else it depends on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace prompt_cache::core {

// A dependency with its stamp as the builder's snapshot saw it (tier/nonce.hpp).
struct StampedTag {
    std::uint64_t tag = 0;
    std::int64_t weight = 0;
    std::int64_t nonces = 0;
    bool operator==(const StampedTag&) const = default;
};

enum class SealKind : std::uint8_t { kChecksum, kAes256Gcm };
enum class Packing : std::uint8_t { kPlain, kPglz };

// Everything is borrowed.
struct Envelope {
    static constexpr std::size_t kHeaderBytes = 24;
    static constexpr std::size_t kNonceOffset = 12, kNonceBytes = 12;
    static constexpr std::size_t kTrailerBytes = 16;
    static constexpr std::size_t kMaxTags = 64;
    static constexpr std::size_t kMaxSpace = 255;
    static constexpr std::size_t kMaxKey = 1024;

    std::int64_t created = 0;  // microseconds since 1970, by the writer's clock
    std::int64_t expires = 0;
    std::uint32_t raw_length = 0;  // of the value before it was packed
    Packing packing = Packing::kPlain;
    std::uint8_t flags = 0;
    std::string_view space;
    std::string_view key;
    std::string_view pointer;
    std::string_view stored;  // the value, packed
    std::span<const StampedTag> tags;
};

// Why an envelope is refused.
enum class EnvelopeFault : std::uint8_t {
    kNone,
    kShort,    // not even a header
    kMagic,    // something else
    kVersion,  // of another format
    kForm,     // lengths that do not add up, or beyond the limits
};

// What the header says.
struct EnvelopeSeal {
    SealKind kind = SealKind::kChecksum;
    std::uint32_t key_id = 0;
};

std::size_t envelope_size(const Envelope& envelope) noexcept;

// Header, body, and zeros where nonce and trailer go; `to` has room for envelope_size() bytes.
void write_envelope(const Envelope& envelope, const EnvelopeSeal& seal, char* to) noexcept;

EnvelopeFault read_header(std::string_view bytes, EnvelopeSeal& seal) noexcept;

// The body of an opened envelope; `bytes` is all of it, header and trailer too. The texts of `envelope` lie
// in `bytes`, its tags in `tags`.
using EnvelopeTags = std::array<StampedTag, Envelope::kMaxTags>;
EnvelopeFault read_body(std::string_view bytes, std::size_t largest_value, EnvelopeTags& tags,
                        Envelope& envelope) noexcept;

}  // namespace prompt_cache::core
