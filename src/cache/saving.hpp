// What the workers have to do: which prompts were composed anew and are not in the table yet, and for which
// databases a worker is wanted.
//
// A lookup notes a user when the composition of its three entries is one that was not noted before, so once a
// change and not once a hit. The list is bounded: what does not fit is found again by a walk over the
// database's entries. It is a matter of speed and history alone; what is lost with a worker is built, or
// noted by the next change.
#pragma once

#include "cache/memory.hpp"

namespace prompt_cache {

struct SavingItemShared {
    Oid database;
    std::uint32_t unit;
    std::uint64_t hash;
};

struct SavingDatabaseShared {
    Oid oid;                    // 0 = free; the lock `saving`, as all below
    bool wanted;                // there is something to do
    bool unclean;               // nonces were left since the last housekeeping
    bool walk;                  // the list was full: walk over the entries
    bool warmed;                // since the server's start, as far as is wanted
    std::uint32_t walk_bucket;  // where the walk goes on
    std::int64_t warm_before;   // where warming goes on: rows older than this; 0 = from the newest
    bool refused;               // no worker could be started the last time
    int worker;                 // its process, 0 = none
    std::int64_t started;       // when the launcher asked for it; monotonic microseconds
    std::int64_t cleaned;       // when housekeeping was done last
    std::uint32_t rounds;       // of housekeeping
    std::uint32_t failures;     // workers in a row that ended with an error
    std::uint64_t written;      // rows, since the server's start
};

struct SavingShared {
    static constexpr std::uint32_t kItems = 4096;
    static constexpr std::uint32_t kDatabases = 64;

    std::uint32_t count;
    int launcher;  // its process, 0 = none
    SavingItemShared items[kItems];
    SavingDatabaseShared databases[kDatabases];
};

namespace saving {

// The number of a composition: changes when one of its entries does. Never 0.
std::uint32_t composition_of(const FoundEntry* user, const FoundEntry* tenant,
                             const FoundEntry* application) noexcept;

// The user's prompt should be saved. Cheap when it was noted before.
void note(const FoundEntry& user, std::uint32_t composition) noexcept;

// The current database has been looked up in: a worker may bring back what it held before the restart.
void note_database() noexcept;

// A transaction of this database has left nonces.
void note_nonces() noexcept;

// Takes up to `most` items of the current database off the list.
std::uint32_t take(SavingItemShared* items, std::uint32_t most) noexcept;

// Must the entries be walked, and from which bucket on? Answers once; a walk that is not done is put back.
std::optional<std::uint32_t> take_walk() noexcept;
void put_walk_back(std::uint32_t bucket) noexcept;

// Nothing that was noted in this database is of use any more.
void forget_items() noexcept;

// A database that is gone needs nothing.
void forget_database(Oid database) noexcept;

}  // namespace saving
}  // namespace prompt_cache
