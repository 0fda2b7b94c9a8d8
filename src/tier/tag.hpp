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

struct Tag {
    std::uint64_t hash = 0;

    Tag() = default;
    explicit Tag(TagKind kind, std::string_view key = {})
        : hash(hash_bytes_extended(reinterpret_cast<const unsigned char*>(key.data()),
                                   static_cast<int>(key.size()), static_cast<std::uint64_t>(kind))) {}

    bool operator==(const Tag&) const = default;
};

}  // namespace prompt_cache
