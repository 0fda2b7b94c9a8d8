// The caller's snapshot in the terms of the protocol: 64-bit ids and the list of what was running.
#pragma once

#include "core/slot.hpp"
#include "pg/postgres.hpp"

namespace prompt_cache {

// A 32-bit id of this moment with its epoch. Ids in snapshots lie within 2^31 of the next id.
inline core::Xid full_xid(TransactionId xid) noexcept {
    if (!TransactionIdIsNormal(xid)) return xid;
    const std::uint64_t base = next_full_xid_hint();
    return base +
           static_cast<std::int64_t>(static_cast<std::int32_t>(xid - static_cast<std::uint32_t>(base)));
}

// The view borrows the snapshot's arrays: it must not outlive the snapshot. In recovery the running ids,
// top-level ones included, are listed in subxip; on a primary the top-level ones in xip.
inline core::SnapshotView view_of(Snapshot snapshot) noexcept {
    core::SnapshotView view;
    view.xmin = full_xid(snapshot->xmin);
    view.xmax = full_xid(snapshot->xmax);
    view.running =
        snapshot->takenDuringRecovery
            ? std::span<const std::uint32_t>{snapshot->subxip,
                                             static_cast<std::size_t>(std::max(snapshot->subxcnt, 0))}
            : std::span<const std::uint32_t>{snapshot->xip, snapshot->xcnt};
    return view;
}

// Two snapshots of one backend with the same identity see the same rows: with the same bounds the set of
// running ids can only have shrunk, so that the same number of them is the same set.
struct SnapshotIdentity {
    LocalTransactionId transaction = InvalidLocalTransactionId;
    TransactionId xmin = 0;
    TransactionId xmax = 0;
    std::uint32_t running = 0;
    std::int32_t running_in_recovery = 0;
    CommandId command = 0;

    bool operator==(const SnapshotIdentity&) const = default;
};

inline SnapshotIdentity identity_of(Snapshot snapshot) noexcept {
    return {local_transaction_id(), snapshot->xmin,    snapshot->xmax,
            snapshot->xcnt,         snapshot->subxcnt, snapshot->curcid};
}

// The snapshot under which the calling statement reads, if it is one that the cache can judge.
inline Snapshot caller_snapshot() noexcept {
    if (!ActiveSnapshotSet() || HistoricSnapshotActive()) return nullptr;
    Snapshot snapshot = GetActiveSnapshot();
    return IsMVCCSnapshot(snapshot) ? snapshot : nullptr;
}

}  // namespace prompt_cache
