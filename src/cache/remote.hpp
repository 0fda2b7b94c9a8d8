// Tier 2 under the rules of the protocol: a value of Redis is used where the stamp of every tag it names is
// what the caller's snapshot sees, and stored with the stamps of the snapshot it was built under.
//
// Knows nothing of layers: an entry is a key in a space with a tag of its own; what else it depends on comes
// with the value. The stamp of `*` is given, since it may carry more than the nonces (durable_star()).
#pragma once

#include "cache/judge.hpp"
#include "tier/redis.hpp"

namespace prompt_cache {

// What one lookup brings along.
struct RemoteContext {
    const Judge& judge;
    Stamp star;
    redis::Patience& patience;
};

// Nothing where Redis has no value that is exact under the judge's snapshot. In the current memory context.
// Its tags, the entry's own and `*` among them, are what it depends on in memory too.
std::optional<redis::Candidate> fetch_remote(const RemoteContext& context, const redis::EntryName& name);

// Stores what was built under the judge's snapshot from these tags; the entry's own and `*` are added. Not
// where DDL may have shown through the snapshot while the value was built.
void store_remote(const RemoteContext& context, const redis::EntryName& name, std::span<const Tag> tags,
                  const redis::Value& value, std::int64_t ttl = 0);

}  // namespace prompt_cache
