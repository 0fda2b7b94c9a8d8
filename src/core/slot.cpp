#include "core/slot.hpp"

#include <sched.h>

#include <algorithm>

namespace prompt_cache::core {

namespace {

constexpr std::uint32_t kSettledBit = 1u << 31;

}  // namespace

// The lock's holder runs a dozen instructions; a waiter that still does not get through has found it
// preempted.
void pause_or_yield(unsigned& spins) noexcept {
    if (++spins % 64 == 0) {
        sched_yield();
        return;
    }
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

bool SlotHistory::push(Xid writer, const Moment* moment) noexcept {
    for (unsigned i = 0; i < n; i++)
        if (xid[i] == writer) return false;
    if (n == kSlotIds)
        drop(xid[kSlotIds - 1], moment);
    else
        n++;
    for (unsigned i = n - 1; i > 0; i--) xid[i] = xid[i - 1];
    xid[0] = writer;
    if (writer > max_xid) max_xid = writer;
    gen++;
    return true;
}

void SlotHistory::drop(Xid dropped, const Moment* moment) noexcept {
    const bool earlier_finished =
        settled || dropped_max_xid == 0 || (moment && dropped_max_xid < moment->now.xmin);
    settled = earlier_finished && moment && moment->finished(dropped);
    dropped_max_xid = std::max(dropped_max_xid, dropped);
}

bool SlotHistory::hit(std::uint64_t entry_gen, const SnapshotView& snapshot) const noexcept {
    const std::uint64_t d =
        gen - entry_gen;  // marks since the entry; wraps to a huge number for an older slot
    if (d == 0) {
        if (applies(Rule::kFastPathNewest)) {
            if (max_xid < snapshot.xmin) return true;
        } else {
            bool remembered_complete = true;
            for (unsigned i = 0; i < n; i++) remembered_complete &= xid[i] < snapshot.xmin;
            if (remembered_complete) return true;
        }
    }
    if (d > n) return false;
    if (applies(Rule::kNewestRunning))
        for (unsigned i = 0; i < d; i++)
            if (snapshot.complete(xid[i])) return false;
    if (applies(Rule::kOldestComplete))
        for (unsigned i = static_cast<unsigned>(d); i < n; i++)
            if (!snapshot.complete(xid[i])) return false;
    return !applies(Rule::kDroppedBound) || dropped_complete(snapshot);
}

std::optional<std::uint64_t> SlotHistory::store_generation(const SnapshotView& snapshot) const noexcept {
    if (!applies(Rule::kStoreCheck)) return gen;
    unsigned k = 0;
    while (k < n && !snapshot.complete(xid[k])) k++;
    for (unsigned i = k; i < n; i++)
        if (!snapshot.complete(xid[i])) return std::nullopt;
    if (applies(Rule::kDroppedBound) && !dropped_complete(snapshot)) return std::nullopt;
    return gen - k;
}

std::optional<std::uint64_t> SlotHistory::put_generation(const SnapshotView& snapshot, Xid own) const noexcept {
    for (unsigned i = 0; i < n; i++)
        if (xid[i] != own && !snapshot.complete(xid[i])) return std::nullopt;
    // What own's mark has pushed out may have ended after the snapshot: then only xmin tells.
    const bool own_is_newest = own != 0 && n > 0 && xid[0] == own;
    if (own_is_newest ? dropped_max_xid >= snapshot.xmin : !dropped_complete(snapshot)) return std::nullopt;
    return gen;
}

std::uint32_t SlotShared::lock() noexcept {
    unsigned spins = 0;
    for (;;) {
        std::uint32_t before = seq.load(std::memory_order_relaxed);
        if ((before & 1) == 0 && seq.compare_exchange_weak(before, before + 1, std::memory_order_acquire,
                                                           std::memory_order_relaxed)) {
            // Keeps the stores of assign() behind the odd number: pairs with the acquire fence in read().
            std::atomic_thread_fence(std::memory_order_release);
            return before;
        }
        pause_or_yield(spins);
    }
}

void SlotShared::unlock(std::uint32_t seq_before) noexcept {
    seq.store(seq_before + 2, std::memory_order_release);
}

SlotHistory SlotShared::copy() const noexcept {
    constexpr auto relaxed = std::memory_order_relaxed;
    SlotHistory history;
    history.gen = gen.load(relaxed);
    history.max_xid = max_xid.load(relaxed);
    history.dropped_max_xid = dropped_max_xid.load(relaxed);
    const std::uint32_t filled = n.load(relaxed);
    history.n = filled & ~kSettledBit;
    history.settled = (filled & kSettledBit) != 0;
    for (unsigned i = 0; i < kSlotIds; i++) history.xid[i] = xid[i].load(relaxed);
    return history;
}

void SlotShared::assign(const SlotHistory& history) noexcept {
    constexpr auto relaxed = std::memory_order_relaxed;
    gen.store(history.gen, relaxed);
    max_xid.store(history.max_xid, relaxed);
    dropped_max_xid.store(history.dropped_max_xid, relaxed);
    n.store(history.n | (history.settled ? kSettledBit : 0), relaxed);
    for (unsigned i = 0; i < kSlotIds; i++) xid[i].store(history.xid[i], relaxed);
}

SlotHistory SlotShared::read() const noexcept {
    unsigned spins = 0;
    for (;;) {
        const std::uint32_t before = seq.load(std::memory_order_acquire);
        const SlotHistory history = copy();
        std::atomic_thread_fence(std::memory_order_acquire);
        if ((before & 1) == 0 && seq.load(std::memory_order_relaxed) == before) return history;
        pause_or_yield(spins);
    }
}

SlotHistory SlotShared::read_locked() noexcept {
    const std::uint32_t before = lock();
    const SlotHistory history = copy();
    unlock(before);
    return history;
}

#ifdef PROMPT_CACHE_TEST
// Negative control of Rule::kWholeMark: the number first, the id only after the lock was free for a while.
bool SlotShared::mark_in_halves(Xid writer, const Moment& moment) noexcept {
    const std::uint32_t before = lock();
    gen.fetch_add(1, std::memory_order_relaxed);
    unlock(before);
    for (unsigned i = 0; i < 2000; i++) sched_yield();
    const std::uint32_t again = lock();
    SlotHistory history = copy();
    const bool marked = history.push(writer, &moment);
    if (marked) history.gen--;
    assign(history);
    unlock(again);
    return marked;
}
#endif

bool SlotShared::mark(Xid writer, const Moment& moment) noexcept {
#ifdef PROMPT_CACHE_TEST
    if (!applies(Rule::kWholeMark)) return mark_in_halves(writer, moment);
#endif
    const std::uint32_t before = lock();
    SlotHistory history = copy();
    const bool marked = history.push(writer, &moment);
    if (marked) assign(history);
    unlock(before);
    return marked;
}

}  // namespace prompt_cache::core
