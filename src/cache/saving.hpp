// What the workers have to do: which prompts were composed anew and are not in the table yet, and for which
// databases a worker is wanted.
//
// A lookup notes a user when the composition of its three entries is one that was not noted before, so once a
// change and not once a hit. The list is bounded: what does not fit is found again by a walk over the
// database's entries. It is a matter of speed and history alone; what is lost with a worker is built, or
// noted by the next change.
#pragma once

#include "cache/memory.hpp"
#include "cache/upkeep.hpp"

namespace prompt_cache {

struct SavingItemShared {
    Oid database;
    std::uint64_t hash;  // of the user's key
};

struct SavingDatabaseShared {
    enum Step { kSaving, kWarming, kHousekeeping, kSteps };
    static constexpr std::size_t kProblem = 160;

    Oid oid;                     // 0 = free; the lock `saving`, as all below
    bool wanted;                 // there is something to save or to warm
    bool unclean;                // nonces were left since the last housekeeping
    bool walk;                   // the list was full: walk over the entries
    bool warmed;                 // since the server's start, as far as is wanted
    bool refused;                // no worker could be started the last time
    bool working;                // its worker is connected
    int worker;                  // its process, 0 = none
    std::int64_t wanted_since;   // monotonic microseconds, as all times
    std::int64_t started;        // when the launcher asked for a worker, or the last one ended with an error
    std::uint32_t failures;      // workers in a row that ended with an error
    std::uint32_t walk_bucket;   // where the walk goes on
    std::int64_t walk_at;        // when to walk for users that were left out; 0 = there are none
    std::uint32_t walk_tries;    // how often such a walk has left some out
    std::int32_t warm_rank;      // where warming goes on: in the usage order, -1 = behind its end ...
    std::int64_t warm_before;    // ... then with rows older than this; 0 = from the newest
    std::int64_t ordered;        // when the usage order was written last
    std::uint64_t ordered_hits;  // and the server's hits then
    std::int64_t cleaned;        // when housekeeping was done last
    std::int64_t nonces_at;      // when nonces were left last
    std::int64_t nonces;         // how many since a pass over them began
    UpkeepShared upkeep;         // housekeeping under way
    std::uint32_t rounds;        // of housekeeping
    std::uint64_t written;       // rows, since the server's start
    char problem[kSteps][kProblem];  // what could not be done the last time; empty if nothing
};

struct SavingShared {
    static constexpr std::uint32_t kItems = 4096;
    static constexpr std::uint32_t kDatabases = 64;

    std::uint32_t count;
    int launcher;       // its process, 0 = none ...
    int launcher_proc;  // ... and its place among the server's processes
    bool stopping;      // the launcher has received SIGTERM, so most likely the server stops
    SavingItemShared items[kItems];
    SavingDatabaseShared databases[kDatabases];
};

// How far a slice of work has come.
enum class Progress { kMore, kDone, kNotNow };  // the last: DDL is going on, or nothing may be cached

namespace saving {

// The number of a composition: changes when one of its entries does. Never 0.
std::uint32_t composition_of(const FoundEntry* user, const FoundEntry* tenant,
                             const FoundEntry* application) noexcept;

// The user's prompt should be saved. Cheap when it was noted before.
void note(const FoundEntry& user, std::uint32_t composition) noexcept;

// The current database has been looked up in: a worker may bring back what it held before the restart.
void note_database() noexcept;

// A transaction of this database has left nonces.
void note_nonces(std::size_t count) noexcept;

// When a worker should be at work in the database; INT64_MAX = never. Under the lock.
std::int64_t due(const SavingDatabaseShared& database) noexcept;

// The same for its parts. Everything is counted in naps, so that a long persist_naptime makes all of it rare.
std::int64_t housekeeping_due(const SavingDatabaseShared& database) noexcept;
std::int64_t order_due(const SavingDatabaseShared& database) noexcept;
std::int64_t naps(std::int64_t count) noexcept;

// Under the lock: the database's place, null if it has none.
SavingDatabaseShared* find(Oid database) noexcept;

// The launcher has something to look at.
void wake_launcher() noexcept;

// Has this database's memory been filled again, as far as is wanted?
bool is_warm() noexcept;

// Takes up to `most` items of the current database off the list.
std::uint32_t take(SavingItemShared* items, std::uint32_t most) noexcept;

// Is anything of the current database noted, or to be walked for?
bool any_noted() noexcept;

// Must the entries be walked, and from which bucket on? Answers once; a walk that is not done is put back.
std::optional<std::uint32_t> take_walk() noexcept;
void put_walk_back(std::uint32_t bucket) noexcept;

// Nothing that was noted in this database is of use any more.
void forget_items() noexcept;

// A database that is gone needs nothing.
void forget_database(Oid database) noexcept;

}  // namespace saving
}  // namespace prompt_cache
