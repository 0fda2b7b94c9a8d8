// Leases: the right of one caller to build a value outside of the database, and the snapshot by which what it
// builds is judged.
//
// An application reads its tables, makes a value and puts it. What another transaction commits in between it
// has not seen; the lease tells, since it keeps what was running when it was given: a value is stored only if
// every writer of its tags was complete for the lease. The application reads after lease() has returned, hence
// sees at least that much.
//
// A snapshot does not list its own transaction among those that run. What a transaction has changed before it took
// a lease, others have not read, or will never see: nobody else may use that lease, and it ends with its transaction. So
// does a lease whose transaction undoes a write: what was read for it may be what never was.
//
// Leases lie in shared memory, so that lease() and put() may come over two connections of a pool. A snapshot
// with more running transactions than there is room for is cut at the first that does not fit: what is beyond
// counts as running, which refuses too much and never too little. A lease ends with its put, or by time. One whose
// entry was changed since would only be refused, so the next caller gets a new one in its place.
//
// When all places are taken and a holder asks that has at least two fewer than the largest, the oldest lease of the largest
// ends. A holder is a session's role in one database. So one role alone may use all places, and none can keep another out. With a
// difference of one both would take the same place from each other for ever.
#pragma once

#include "cache/judge.hpp"
#include "core/own_order.hpp"

namespace prompt_cache {

inline constexpr unsigned kLeases = 256;
inline constexpr unsigned kLeaseRunning = 32;
inline constexpr std::int64_t kLeaseMicros = 30 * 1000000;

struct LeaseShared {
    std::int64_t id;       // 0 = free; the lock `leases`, as all below
    std::uint64_t key;     // the entry's hash, which has the database in it
    std::int64_t expires;  // monotonic microseconds
    std::uint64_t serial;  // leases given before it
    Oid database;          // this and the role: who holds it
    Oid role;
    std::int32_t backend;  // this and the next: the transaction that took it
    LocalTransactionId transaction;
    core::Command command;  // of the snapshot under which it was taken
    core::Xid own;          // the id that the transaction had by then: good for that one alone. 0 = none
    core::Xid xmin;
    core::Xid xmax;
    std::uint32_t count;
    std::uint32_t running[kLeaseRunning];

    // Has the current transaction taken it?
    bool is_own() const noexcept { return backend == local_transaction_backend() && transaction == local_transaction_id(); }
};

struct LeasesShared {
    std::uint64_t given;
    LeaseShared place[kLeases];
};

namespace lease {

// Nothing if somebody else has the lease of this entry, or there is no room for another. `tags` are those of the entry that
// are known before it is made.
std::optional<std::int64_t> take(const Judge& judge, const EntryKey& key, std::span<const Tag> tags);

// Ends a lease and gives what it kept; nothing if it has ended before or is another entry's.
std::optional<LeaseShared> give_back(std::int64_t id, const EntryKey& key) noexcept;

// The transaction has ended; `undone`: a write of it was rolled back, or all of it.
void at_end_of_transaction(bool undone) noexcept;

// The snapshot of a lease. Borrows.
inline core::SnapshotView view_of(const LeaseShared& lease) noexcept {
    return {lease.xmin, lease.xmax, {lease.running, lease.count}};
}

// A number that no lease has. Below 2^53, so that it is exact as a number of JavaScript too.
std::int64_t new_id();

}  // namespace lease
}  // namespace prompt_cache
