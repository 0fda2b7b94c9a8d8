// Between memory and tier 3: what was composed is written to the table, and after a restart brought back;
// rows of users that are gone are deleted.
//
// Each walk goes over many users. One whose row is bad, or whose build fails, is left out and counted; the
// others are done. Until the first failure a slice is one subtransaction, then each of its users is one.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace prompt_cache {

struct SavingItemShared;
enum class Progress;

// The users of a walk that were left out, and why the first one was.
struct LeftOutLocal {
    std::uint32_t count = 0;
    const char* why = nullptr;   // names the user and the condition; in the memory context of the walk
    const char* text = nullptr;  // the error's own words, for the server log alone
};

// Writes a row for every user in memory whose composed prompt the table does not hold yet; returns the rows
// written. Writes nothing in a transaction that must bypass the cache: what memory held is void then, or
// about to be. A WARNING tells of users left out.
std::int64_t save_all();

// A slice of that: from a bucket on, about `most` prompts, none of them built. Moves `bucket` on.
Progress save_slice(std::uint32_t& bucket, std::uint32_t most, std::int64_t& written, LeftOutLocal& left_out);

// The same for those users that were noted: done, if now is the time.
Progress save_items(std::span<const SavingItemShared> items, std::int64_t& written, LeftOutLocal& left_out);

// Writes down whose prompts are in use, hottest first, as far as a restart could bring them back.
void save_usage_order();

// Brings users into memory whose rows are current: those of row `rank` of the usage order; behind its end,
// where `rank` is set to -1, at most `most` of the newest rows older than row `before`. Moves both on.
Progress warm_slice(std::int32_t& rank, std::int64_t& before, std::uint32_t most, LeftOutLocal& left_out);

// Locks the users table for reading if nobody has it exclusively; for a worker, which must not wait.
bool try_lock_sources();

// Deletes the rows of users that are gone; returns how many. Whether a user exists is asked of the builder,
// as the owner of the users table: nothing of that table is ever run with the rights of the extension's
// owner. The slice asks for at most `most` users, newest rows first, older than row `before`.
std::int64_t purge_gone();
std::int64_t purge_slice(std::int64_t& before, std::uint32_t most, LeftOutLocal& left_out);

}  // namespace prompt_cache
