// The slots of `*` and of what the namespaces are: who changed something on which every entry of a database hangs.
//
// An ordinary slot (slot.hpp) orders its marks and finds no border between them where a writer still runs whose mark
// is older than that of one which has ended. A prepared transaction may run for days, and what marks these slots
// is DDL, so here there is no order. The slot keeps two sets of writers:
//
//   pending   marked, and not known to have ended; each id is remembered
//   ended     known to have ended: the highest id, and `older`
//
//   mark      the writer is pending now
//   store     a pending writer that the builder's snapshot sees as COMPLETE has ended: it moves over, and the slot
//             gets a new generation. The value carries the slot's generation; it is not stored if an ended
//             writer is RUNNING for the snapshot, nor, since it would be of no use, if a pending one has ended
//   verdict   an entry is exact if it has the slot's generation, every ended writer is COMPLETE for the
//             snapshot, and every pending one still runs now
//
// 1. While an entry's generation stands, no writer has moved. So who is pending now was pending, or not marked yet,
//    when it was stored: its builder did not see it, and the reader, for whom it runs now, does not either. Who
//    is ended was ended then: both see it. So they agree on every writer.
// 2. Some DDL shows through every snapshot once it is committed (TRUNCATE, a function's new body). What of it shows in
//    an entry is of writers that had ended when it was built. They were ended for the slot when it was stored; or
//    they were pending, and then nobody uses it, since they do not run now. "Runs now" is asked of a snapshot of
//    now, taken after the slot was read. So a mark empties nothing before its writer ends.
//
// Nothing has to be complete in order, so any number of prepared transactions is no reason for misses. A snapshot of
// before a writer's end is of no use any more once somebody has stored after it: it builds. For DDL that must
// be so.
//
// `older`: which snapshots see every ended writer as COMPLETE? Those whose xmin lies beyond the highest. And where
// something older holds xmin back, those in which nothing below the highest runs but `older`: the ids that ran for the
// snapshot by which somebody moved last, who saw all ended ones as ended. Every snapshot taken after that move
// passes this test.
//
// Memory: consecutive lines of the array of slots, the first of them read like an ordinary slot by the fast path of
// the verdict. To whoever takes it for one altogether it says less than is known, and nothing wrong: no id,
// and that the ids of before are complete for those alone who have all of them, pending ones too, below xmin.
#pragma once

#include <algorithm>

#include "core/slot.hpp"

namespace prompt_cache::core {

// A view; the lines are zeroed at first.
class WideSlot {
  public:
    static constexpr unsigned kRecent = 4;

    // With room for so many pending ids.
    static constexpr std::uint64_t lines(std::uint64_t ids) noexcept {
        const std::uint64_t bytes = kRecent * sizeof(Xid) + ids * (sizeof(Xid) + sizeof(std::uint32_t));
        return 1 + (bytes + sizeof(SlotShared) - 1) / sizeof(SlotShared);
    }

    WideSlot(SlotShared* head, std::uint32_t ids) noexcept : head_(*head), capacity_(ids) {}

    std::uint64_t gen() const noexcept { return head_.gen.load(std::memory_order_relaxed); }
    bool has_pending() const noexcept { return pending_count().load(std::memory_order_relaxed) != 0; }

    // False: the writer is pending already. Pending ids that the moment shows as finished make room where there is
    // none. Without any the writer counts as ended at once: nothing hits until every snapshot sees it so.
    bool mark(Xid writer, const Moment& moment) noexcept;

    // Is an entry of generation `entry_gen` exactly what a build under `snapshot` would give? `now()` is a snapshot of
    // now, taken where it is needed.
    template <typename Now>
    bool hit(std::uint64_t entry_gen, const SnapshotView& snapshot, Now now) const noexcept {
        return read([&] {
            if (gen() != entry_gen) return false;
            if (applies(Rule::kEndedSeen) && !ended_complete(snapshot)) return false;
            return !applies(Rule::kPendingRuns) || !has_pending() ||
                   none_pending([view = now()](Xid writer) { return view.complete(writer); });
        });
    }

    // The generation to store a value with that is built under `snapshot`; nothing if the slot cannot vouch for it. An
    // entry of this generation would be a hit as of `now`, a snapshot of now.
    std::optional<std::uint64_t> store_generation(const SnapshotView& snapshot, const SnapshotView& now) noexcept;

    // The same for a value that was made outside of the database later than `snapshot`. Whether anybody could use it is
    // left to the verdict.
    std::optional<std::uint64_t> put_generation(const SnapshotView& snapshot) noexcept;

    // Does the snapshot see every writer that has ended?
    template <typename Now>
    bool sees_all_ended(const SnapshotView& snapshot, Now now) const noexcept {
        return read([&] {
            return ended_complete(snapshot) && (!has_pending() || none_pending([&, view = now()](Xid writer) {
                                                    return view.complete(writer) && !snapshot.complete(writer);
                                                }));
        });
    }

    // Is a pending writer complete for the snapshot?
    bool has_unmoved(const SnapshotView& snapshot) const noexcept {
        return read([&] { return !none_pending([&](Xid writer) { return snapshot.complete(writer); }); });
    }

    // Ids that are complete for the snapshot: of the pending ones, of the last that have moved, and the highest that has.
    // Room for capacity + kRecent + 1 is needed.
    std::size_t ended_ids(const SnapshotView& snapshot, Xid* ids) const noexcept;

    // Whose slot it is; for the caller to use, who shares out the slots.
    std::atomic<std::uint64_t>& owner() const noexcept { return head_.xid[3]; }

  private:
    std::atomic<std::uint64_t>& ended_max() const noexcept { return head_.xid[0]; }
    std::atomic<std::uint64_t>& pending_count() const noexcept { return head_.xid[1]; }
    std::atomic<std::uint64_t>& older_count() const noexcept { return head_.xid[2]; }
    std::atomic<Xid>* recent() const noexcept { return reinterpret_cast<std::atomic<Xid>*>(&head_ + 1); }
    std::atomic<Xid>* pending() const noexcept { return recent() + kRecent; }
    std::atomic<std::uint32_t>* older() const noexcept {
        return reinterpret_cast<std::atomic<std::uint32_t>*>(pending() + capacity_);
    }

    // What `look` sees in an unlocked slot that did not change meanwhile.
    template <typename Look>
    bool read(Look look) const noexcept {
        for (unsigned spins = 0;; pause_or_yield(spins)) {
            const std::uint32_t before = head_.seq.load(std::memory_order_acquire);
            const bool seen = look();
            std::atomic_thread_fence(std::memory_order_acquire);
            if ((before & 1) == 0 && head_.seq.load(std::memory_order_relaxed) == before) return seen;
        }
    }
    // Under read() the numbers may be torn: they are kept inside the slot.
    std::uint32_t within(const std::atomic<std::uint64_t>& count) const noexcept {
        return static_cast<std::uint32_t>(std::min<std::uint64_t>(count.load(std::memory_order_relaxed), capacity_));
    }
    template <typename Is>
    bool none_pending(Is is) const noexcept {
        const std::uint32_t count = within(pending_count());
        for (std::uint32_t i = 0; i < count; i++)
            if (is(pending()[i].load(std::memory_order_relaxed))) return false;
        return true;
    }

    bool ended_complete(const SnapshotView& snapshot) const noexcept;
    void move_ended(const SnapshotView& snapshot) noexcept;
    void end(Xid writer) noexcept;
    void publish_bounds() noexcept;

    SlotShared& head_;
    std::uint32_t capacity_;
};

}  // namespace prompt_cache::core
