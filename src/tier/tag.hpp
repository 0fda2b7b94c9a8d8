// Tags: the sources that an entry depends on, as 64-bit hashes.
//
// A tag is a kind and the source's key in the output form of its type: user '42' and tenant '42' are two
// tags. The hash is the server's own, which hash partitioning stores on disk too, so it stays the same over
// versions. Two tags with one hash invalidate each other's entries, which costs a build and nothing else.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

enum class TagKind : char {
    kAll = '*',          // anything in this database
    kApplication = 'a',  // the application prompt
    kTenant = 't',
    kUser = 'u',
};

// How many tags of its kind there are, and how much hangs on each: slots are shared out by it, so that a tag
// on which everything hangs never shares its slot with one of a million users.
enum class TagClass : unsigned { kRow, kShared, kAll };

class Tag {
  public:
    std::uint64_t hash = 0;  // the class in the two highest bits

    Tag() = default;
    explicit Tag(TagKind kind, std::string_view key = {})
        : hash((hash_bytes_extended(reinterpret_cast<const unsigned char*>(key.data()),
                                    static_cast<int>(key.size()), static_cast<std::uint64_t>(kind)) >>
                2) |
               static_cast<std::uint64_t>(class_of(kind)) << 62) {}

    TagClass tag_class() const noexcept { return static_cast<TagClass>(hash >> 62); }
    bool operator==(const Tag&) const = default;

  private:
    static constexpr TagClass class_of(TagKind kind) noexcept {
        if (kind == TagKind::kAll) return TagClass::kAll;
        return kind == TagKind::kUser ? TagClass::kRow : TagClass::kShared;
    }
};

}  // namespace prompt_cache
