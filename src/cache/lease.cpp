#include "cache/lease.hpp"

namespace prompt_cache::lease {

namespace {

// The transaction that took a lease last.
LocalTransactionId leased_local = InvalidLocalTransactionId;

// The running ids, oldest first, as many as there is room for.
void keep_running(LeaseShared& lease, const core::SnapshotView& view) {
    lease.xmin = view.xmin;
    lease.xmax = view.xmax;
    auto* ids = static_cast<core::Xid*>(palloc((view.running.size() + 1) * sizeof(core::Xid)));
    std::size_t count = 0;
    for (const std::uint32_t low : view.running) ids[count++] = full_xid(low);
    std::sort(ids, ids + count);
    if (count > kLeaseRunning) lease.xmax = ids[kLeaseRunning];
    lease.count = static_cast<std::uint32_t>(std::min<std::size_t>(count, kLeaseRunning));
    for (std::uint32_t i = 0; i < lease.count; i++) lease.running[i] = static_cast<std::uint32_t>(ids[i]);
    pfree(ids);
}

}  // namespace

std::int64_t new_id() {
    std::int64_t id = 0;
    if (!pg_strong_random(&id, sizeof(id)))
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("prompt_cache could not get random bytes")));
    return (id & INT64_MAX) | 1;
}

std::optional<std::int64_t> take(const Judge& judge, const EntryKey& key) {
    LeaseShared mine{};
    mine.id = new_id();
    mine.key = key.hash;
    mine.backend = local_transaction_backend();
    mine.transaction = local_transaction_id();
    mine.command = judge.snapshot->curcid;
    mine.own = full_xid(GetTopTransactionIdIfAny());
    keep_running(mine, judge.view);
    const std::int64_t now = memory::now();
    mine.expires = now + kLeaseMicros;

    LeaseShared* free_place = nullptr;
    bool taken = false;
    LWLockAcquire(shared.leases_lock, LW_EXCLUSIVE);
    for (LeaseShared& place : shared.leases->place) {
        if (place.id == 0 || place.expires <= now) {
            if (!free_place) free_place = &place;
        } else if (place.key == mine.key) {
            taken = true;
        }
    }
    if (!taken && free_place) *free_place = mine;
    LWLockRelease(shared.leases_lock);
    if (taken || !free_place) return std::nullopt;
    leased_local = mine.transaction;
    return mine.id;
}

std::optional<LeaseShared> give_back(std::int64_t id, const EntryKey& key) noexcept {
    std::optional<LeaseShared> found;
    LWLockAcquire(shared.leases_lock, LW_EXCLUSIVE);
    for (LeaseShared& place : shared.leases->place) {
        if (place.id != id || place.key != key.hash) continue;
        if (place.expires > memory::now()) found = place;
        place.id = 0;
    }
    LWLockRelease(shared.leases_lock);
    return found;
}

void at_end_of_transaction(bool undone) noexcept {
    if (leased_local == InvalidLocalTransactionId) return;
    LWLockAcquire(shared.leases_lock, LW_EXCLUSIVE);
    for (LeaseShared& place : shared.leases->place) {
        const bool is_of_it = place.backend == local_transaction_backend() && place.transaction == leased_local;
        if (is_of_it && (undone || place.own != 0)) place.id = 0;
    }
    LWLockRelease(shared.leases_lock);
    leased_local = InvalidLocalTransactionId;
}

}  // namespace prompt_cache::lease
