// Single flight: backends that miss the same entry at once wait for the one that builds it.
//
//   board()   nobody builds this entry     -> kLead: build, store, land()
//             somebody does                -> wait until he lands or build_wait is over
//                 he has landed            -> kLanded: look into memory again, build if it is not there
//                 time is over, no room    -> kAlone: build without telling anybody
//             his answer cannot be ours    -> kAlone, at once
//
// A waiter's snapshot can share the answer if an entry built under the leader's snapshot would be a hit for
// it; the leader leaves the dependencies such an entry would carry. Waiting is only ever a matter of speed:
// it ends after build_wait, it can be cancelled, and if the leader needs a lock that a waiter holds, the
// waiter's time runs out and it builds for itself. The leader lands whatever happens: after an error by
// PG_FINALLY, at its exit by a callback; a leader killed outright takes the server's shared memory with it.
//
// The table is small and not chained: two keys that fall on one place do not wait for each other.
#pragma once

#include "cache/judge.hpp"

namespace prompt_cache {

// What there is to know of a flight; all zero = nobody flies.
struct FlightPlanShared {
    std::uint64_t key;     // hash of the entry's key, 0 = nobody flies; the lock `flights`, as all below
    std::uint64_t number;  // counts the flights of this place
    Oid database;
    bool by_stamp;
    Dependency dependencies[kMaxTags];
};

struct FlightShared {
    FlightPlanShared plan;     // the lock `flights`
    ConditionVariable landed;  // has a lock of its own
};

inline constexpr unsigned kFlights = 128;

enum class Boarding { kLead, kLanded, kAlone };

// Waits, and may raise an error for a cancel request. `own` is the entry's own tag.
Boarding board(const Judge& judge, const EntryKey& key, Tag own);

// The leader's duty. Never fails; does nothing for one who leads no flight.
void land() noexcept;

}  // namespace prompt_cache
