// Tier 2: values in Redis or Valkey, shared by a primary and its standbys. A failure is a miss, never an
// error.
//
// What is found is authentic, as far as there is a key, and it is the entry that was asked for; whether it is
// current is for the caller to say, by the stamps that come with it (cache/remote.hpp). Redis may lose, keep,
// replay or swap anything: nothing here believes it.
//
// An entry is a key in a space (a layer, a namespace) with a tag of its own, from which its name in Redis
// follows:
//
//     prompt_cache:{system identifier.database.incarnation}:tag            without a key
//     prompt_cache:{system identifier.database.incarnation}:HMAC of it     with one
//
// so that the worker, who knows the tags that were changed and nothing else, can unlink it. Two tags with one
// hash overwrite each other, which costs a build: the value names its full key.
#pragma once

#include "core/envelope.hpp"
#include "pg/postgres.hpp"
#include "tier/incarnation.hpp"
#include "tier/redis_config.hpp"
#include "tier/tag.hpp"

namespace prompt_cache::redis {

struct EntryName {
    std::string_view space;
    std::string_view key;
    Tag own;
};

// `flags` and `pointer` as in memory.
struct Value {
    std::uint8_t flags = 0;
    std::string_view pointer;
    std::string_view text;
};

// A value and what it was built from.
struct Candidate {
    Value value;
    std::span<const core::StampedTag> tags;
    std::int64_t left;  // microseconds until it ends there
};

// How long one lookup waits for Redis, all its exchanges together: redis_timeout from the first on, and not
// at all after a failure. So a lookup is delayed by one deadline at most, however many layers it misses.
struct Patience {
    std::int64_t deadline = 0;
    bool spent = false;
};

// Is there a Redis to ask: configured, and its breaker closed?
bool is_on() noexcept;

// In the current memory context. May be ended by a cancel request.
std::optional<Candidate> load(Patience& patience, const EntryName& name);

// Keeps a value for redis_ttl, or `ttl` seconds. What is larger than max_value_size, or has more tags than an
// envelope takes, is not stored.
void save(Patience& patience, const EntryName& name, std::span<const core::StampedTag> tags,
          const Value& value, std::int64_t ttl = 0);

// A value that was not current.
void count_stale() noexcept;

// The name of an entry in Redis. Empty where the extension is not installed.
inline constexpr std::size_t kNameBytes = 128;
using NameText = std::array<char, kNameBytes>;
std::string_view name_of(std::string_view scope, std::uint64_t tag, NameText& buffer) noexcept;

// Runs a command and counts what became of it, breaker included; for the worker too.
bool attempt(std::span<const std::string_view> command, std::int64_t deadline, std::size_t longest,
             struct Reply& reply);

}  // namespace prompt_cache::redis
