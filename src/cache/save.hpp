// Writing what memory holds to tier 3.
#pragma once

#include <cstdint>
#include <span>

namespace prompt_cache {

struct SavingItemShared;

// Writes a row for every user in memory whose composed prompt the table does not hold yet; returns the rows
// written. Writes nothing in a transaction that must bypass the cache: what memory held is void then, or
// about to be.
std::int64_t save_all();

// A slice of that: from a bucket on, about `most` prompts, none of them built. Moves `bucket` on; 0 at the
// end.
std::int64_t save_slice(std::uint32_t& bucket, std::uint32_t most);

// The same for those users that were noted.
std::int64_t save_items(std::span<const SavingItemShared> items);

// Brings at most `most` of the newest rows older than row `before` into memory; returns the oldest of them, 0
// at the end.
std::int64_t warm_rows(std::int64_t before, std::uint32_t most);

// Locks the users table for reading if nobody has it exclusively; for a worker, which must not wait.
bool try_lock_sources();

// Deletes the rows of users that are gone; returns how many. Whether a user exists is asked of the builder,
// as the owner of the users table: nothing of that table is ever run with the rights of the extension's
// owner.
std::int64_t purge_gone();

}  // namespace prompt_cache
