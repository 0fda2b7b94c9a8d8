// The caller's snapshot in the terms of the protocol: 64-bit ids and the list of what was running.
#pragma once

#include "core/slot.hpp"
#include "pg/postgres.hpp"

extern "C" {
#include "storage/procarray.h"
}

namespace prompt_cache {

// A 32-bit id of this moment with its epoch. Ids in snapshots lie within 2^31 of the next id.
inline core::Xid full_xid(TransactionId xid) noexcept {
    if (!TransactionIdIsNormal(xid)) return xid;
    const std::uint64_t base = next_full_xid_hint();
    return base +
           static_cast<std::int64_t>(static_cast<std::int32_t>(xid - static_cast<std::uint32_t>(base)));
}

// What was running when the snapshot was taken. In recovery these ids, top-level ones included, are listed in
// subxip; on a primary the top-level ones in xip.
inline std::span<const std::uint32_t> running_in(Snapshot snapshot) noexcept {
    if (!snapshot->takenDuringRecovery) return {snapshot->xip, snapshot->xcnt};
    return {snapshot->subxip, static_cast<std::size_t>(std::max(snapshot->subxcnt, 0))};
}

// The view borrows the snapshot's arrays: it must not outlive the snapshot.
inline core::SnapshotView view_of(Snapshot snapshot) noexcept {
    core::SnapshotView view;
    view.xmin = full_xid(snapshot->xmin);
    view.xmax = full_xid(snapshot->xmax);
    view.running = running_in(snapshot);
    return view;
}

// A snapshot of now, which is not kept: who runs, where the caller's own snapshot may be old. Not the server's
// GetLatestSnapshot(), which may raise errors and is not for parallel workers. Where nothing has ended since the last call it is
// the last one. Only while the caller has a snapshot, after reserve_view_of_now(). The next call overwrites it.
inline SnapshotData& snapshot_of_now() noexcept {
    static SnapshotData now_local{};
    return now_local;
}
inline core::SnapshotView view_of_now() noexcept {
    return view_of(GetSnapshotData(&snapshot_of_now()));
}
// Takes the memory for it, once: nothing else there can raise an error.
inline void reserve_view_of_now() {
    if (!snapshot_of_now().xip) GetSnapshotData(&snapshot_of_now());
}

// Two snapshots of one backend with the same identity see the same rows. To count what was running would not do:
// while PREPARE TRANSACTION waits for a standby its id is listed twice, in the place of one that has ended.
struct SnapshotIdentity {
    LocalTransactionId transaction = InvalidLocalTransactionId;
    TransactionId xmin = 0;
    TransactionId xmax = 0;
    CommandId command = 0;
    std::uint64_t running = 0;  // a hash

    bool operator==(const SnapshotIdentity&) const = default;
};

inline SnapshotIdentity identity_of(Snapshot snapshot) noexcept {
    const std::span<const std::uint32_t> running = running_in(snapshot);
    return {local_transaction_id(), snapshot->xmin, snapshot->xmax, snapshot->curcid,
            hash_bytes_extended(reinterpret_cast<const unsigned char*>(running.data()),
                                static_cast<int>(running.size_bytes()), 0)};
}

// The snapshot under which the calling statement reads, if it is one that the cache can judge.
inline Snapshot caller_snapshot() noexcept {
    if (!ActiveSnapshotSet() || HistoricSnapshotActive()) return nullptr;
    Snapshot snapshot = GetActiveSnapshot();
    return IsMVCCSnapshot(snapshot) ? snapshot : nullptr;
}

}  // namespace prompt_cache
