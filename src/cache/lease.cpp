#include "cache/lease.hpp"

#include "cache/writer.hpp"

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

// Would every put of this lease be refused?
bool is_void(const LeaseShared& lease, std::span<const Tag> tags) noexcept {
    return std::any_of(tags.begin(), tags.end(), [&](Tag tag) {
        return !slot_of(tag).read().put_generation(view_of(lease), lease.own) ||
               (lease.is_own() && has_unseen_change(tag, lease.command));
    });
}

// How many places the holder of a lease has, where all are taken.
unsigned held_beside(const LeaseShared& lease) noexcept {
    unsigned held = 0;
    for (const LeaseShared& place : shared.leases->place)
        if (place.database == lease.database && place.role == lease.role) held++;
    return held;
}

// The oldest lease of who holds the most, if that is two more than the caller or further.
LeaseShared* place_of_largest_holder(const LeaseShared& mine) noexcept {
    LeaseShared* largest = nullptr;
    unsigned most = held_beside(mine) + 1;
    for (LeaseShared& place : shared.leases->place) {
        const unsigned held = held_beside(place);
        if (held > most || (largest && held == most && place.serial < largest->serial)) largest = &place;
        most = std::max(most, held);
    }
    return largest;
}

}  // namespace

std::int64_t new_id() {
    constexpr std::int64_t kMask = (std::int64_t{1} << 53) - 1;
    std::int64_t id = 0;
    if (!pg_strong_random(&id, sizeof(id)))
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("prompt_cache could not get random bytes")));
    return (id & kMask) | 1;
}

std::optional<std::int64_t> take(const Judge& judge, const EntryKey& key, std::span<const Tag> tags) {
    LeaseShared mine{};
    mine.id = new_id();
    mine.key = key.hash;
    mine.database = MyDatabaseId;
    mine.role = GetSessionUserId();
    mine.backend = local_transaction_backend();
    mine.transaction = local_transaction_id();
    mine.command = judge.snapshot->curcid;
    mine.own = full_xid(GetTopTransactionIdIfAny());
    keep_running(mine, judge.view);
    const std::int64_t now = memory::now();
    mine.expires = now + kLeaseMicros;

    LeaseShared* to = nullptr;
    bool taken = false;
    LWLockAcquire(shared.leases_lock, LW_EXCLUSIVE);
    for (LeaseShared& place : shared.leases->place) {
        const bool holds = place.id != 0 && place.expires > now;
        const bool gives_way = holds && place.key == mine.key && is_void(place, tags);
        if (!holds || gives_way)
            to = &place;
        else if (place.key == mine.key)
            taken = true;
    }
    if (!taken && !to) to = place_of_largest_holder(mine);
    if (!taken && to) {
        mine.serial = shared.leases->given++;
        *to = mine;
    }
    LWLockRelease(shared.leases_lock);
    if (taken || !to) return std::nullopt;
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
