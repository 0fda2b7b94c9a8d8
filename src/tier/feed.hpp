// What was changed, for processes outside that keep values of their own: marks that the worker publishes on
// prompt_cache:{system identifier.database.incarnation}:invalidate (src/redis_worker.cpp).
//
// A writer leaves its tags here before its transaction ends, with its id; the worker takes them and publishes
// them once that id has ended. So what is published is visible by then to every new snapshot. Reading the new
// rows of tag_nonce was rejected: it needs a connection to each database, and a scan that finds what is new.
//
// The list is a ring. What is overwritten before it was taken, and what was marked before anybody published,
// is made up for by the worker: it tells all who listen to forget everything. Nothing here decides what the
// server's own lookups return.
#pragma once

#include "tier/redis_shared.hpp"
#include "tier/tag.hpp"

namespace prompt_cache::feed {

// The current transaction, with this id, has changed these tags.
void note(std::span<const Tag> tags, std::uint64_t xid);

// This database has readers of Redis.
void note_scope(std::int64_t incarnation) noexcept;

// A database, or the extension in it, is gone.
void forget(Oid database) noexcept;

// For the worker: from now on, or no longer, marks are wanted. Returns how many were made before. A
// transaction whose marks are not among those that follow has an id already: it is running now, or has ended.
std::uint64_t begin(Latch* latch) noexcept;
void end() noexcept;

// Marks since `from`, which moves on; at most `most`. `lost` where some were overwritten.
std::uint32_t take(std::uint64_t& from, FeedMarkShared* marks, std::uint32_t most, bool& lost) noexcept;

// The databases that have a channel.
std::uint32_t scopes(FeedScopeShared* into) noexcept;

}  // namespace prompt_cache::feed
