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
    kNamespace = 'n',  // every value of a namespace; without a name: what the namespaces are
    kPrefix = 'p',     // some values of a namespace, by a prefix of their keys; see forget_prefix()
    kEntry = 'e',      // one value of a namespace
    kNamed = 'x',      // whatever the application means by the name
};

// How many tags of its kind there are, and how much hangs on each: slots are shared out by it, so that a tag
// on which everything hangs never shares its slot with one of a million users.
enum class TagClass : unsigned { kRow, kShared, kAll };

class Tag {
  public:
    std::uint64_t hash = 0;  // the class in the two highest bits

    Tag() = default;
    explicit Tag(TagKind kind, std::string_view key = {})
        : hash(with_class(kind, hash_of(key, static_cast<std::uint64_t>(kind)))) {}
    // Of a key within a namespace.
    Tag(TagKind kind, std::string_view scope, std::string_view key)
        : hash(with_class(kind, hash_of(key, hash_of(scope, static_cast<std::uint64_t>(kind))))) {}
    // One that was remembered by its hash.
    static Tag of_hash(std::uint64_t hash) noexcept {
        Tag tag;
        tag.hash = hash;
        return tag;
    }

    TagClass tag_class() const noexcept { return static_cast<TagClass>(hash >> 62); }
    bool operator==(const Tag&) const = default;

  private:
    static std::uint64_t hash_of(std::string_view bytes, std::uint64_t seed) noexcept {
        return hash_bytes_extended(reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()), seed);
    }
    static std::uint64_t with_class(TagKind kind, std::uint64_t hash) noexcept {
        return hash >> 2 | static_cast<std::uint64_t>(class_of(kind)) << 62;
    }
    static constexpr TagClass class_of(TagKind kind) noexcept {
        switch (kind) {
            case TagKind::kAll:
                return TagClass::kAll;
            case TagKind::kUser:
            case TagKind::kEntry:
            case TagKind::kNamed:
                return TagClass::kRow;
            default:
                return TagClass::kShared;
        }
    }
};

}  // namespace prompt_cache
