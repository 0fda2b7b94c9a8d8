// Slots: which writers changed a tag, and whether an entry is exact for a snapshot.
//
// A tag (a user's row, a tenant's row, the application prompt) is hashed to a slot. `*`, for anything in the
// database, has a slot of another kind (wide_slot.hpp). A writer X marks the slots of its tags before it commits: the slot counts the mark (`gen`) and
// remembers X as the newest of four ids. An entry carries the generation it was built at. Two facts make the
// verdict exact:
//
//   1. X marks before it leaves the set of running transactions, so a snapshot that sees X finds X's mark.
//   2. The entry's builder and the reader agree on every writer of the tag when each mark up to the entry's
//      generation is COMPLETE for the reader and each later one still RUNNING for it.
//
// Agreement on every writer means the same visible rows, hence the same value. No clock, no message, no
// global counter takes part. A collision of two tags in one slot invalidates too much, never too little.
//
// Ids are 64 bits wide everywhere; COMPLETE and RUNNING are decided from the snapshot's own arrays, which
// list every running top-level id. The reader's own id is never tested: a transaction that has marked
// bypasses the cache.
//
// Concurrency: `seq` is a seqlock. It is odd while a marker works; readers copy the line and try again when
// `seq` moved. The lock is held for a dozen instructions, nothing in between can block, allocate or raise an
// error.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/rules.hpp"

namespace prompt_cache::core {

using Xid = std::uint64_t;            // a top-level transaction id with its epoch
inline constexpr unsigned kSlotIds = 4;

// For who waits for a slot whose lock is taken.
void pause_or_yield(unsigned& spins) noexcept;

// What a lookup needs of an MVCC snapshot. `running` holds the low halves of the ids in [xmin, xmax) that
// were running; the range is narrower than 2^31, so a low half names one id. Points into the snapshot, owns
// nothing.
struct SnapshotView {
    Xid xmin = 0;
    Xid xmax = 0;
    std::span<const std::uint32_t> running;

    bool complete(Xid xid) const noexcept {
        if (xid < xmin) return true;
        if (xid >= xmax) return false;
        const auto low = static_cast<std::uint32_t>(xid);
        for (const std::uint32_t other : running)
            if (other == low) return false;
        return true;
    }
};

// What a marker knows of who is running: a snapshot taken before it marks.
struct Moment {
    SnapshotView now;
    Xid own = 0;  // the marker's own id, which its snapshot leaves out

    bool finished(Xid xid) const noexcept { return xid != own && now.complete(xid); }
};

// A slot as one consistent copy; the pure half of this file works on it.
//
// Ids pushed out of xid[] must be complete for whoever hits or stores. A snapshot whose xmin lies beyond the
// highest of them is sure of that. So is, if every one had finished when it was pushed out (`settled`), a
// snapshot that was taken after the last of these pushes; and who sees the newest marker as complete was.
// Without that one long transaction, holding xmin back, would turn every slot that was marked five times
// since into misses until it ends.
struct SlotHistory {
    std::uint64_t gen = 0;             // marks ever made
    Xid max_xid = 0;                   // highest id ever marked
    Xid dropped_max_xid = 0;           // highest id ever pushed out of xid[]
    bool settled = false;              // all of these had finished when they were pushed out
    std::uint32_t n = 0;               // how many of xid[] are filled
    Xid xid[kSlotIds] = {0, 0, 0, 0};  // newest first

    // Remembers one more writer. A writer that is remembered already changes nothing.
    // Without a moment an id that is pushed out counts as running.
    bool push(Xid writer, const Moment* moment = nullptr) noexcept;

    // Are all ids that were pushed out complete for the snapshot?
    bool dropped_complete(const SnapshotView& snapshot) const noexcept {
        return dropped_max_xid < snapshot.xmin ||
               (settled && snapshot.complete(xid[0]));
    }

    // Is an entry of generation `entry_gen` exactly what a build under `snapshot` would give?
    bool hit(std::uint64_t entry_gen, const SnapshotView& snapshot) const noexcept;

    // The generation to store a value with that was built under `snapshot`; nothing if the slot cannot vouch
    // for it.
    std::optional<std::uint64_t> store_generation(const SnapshotView& snapshot) const noexcept;

    // The generation for a value that was made outside of the database, of what `snapshot` sees and of what the
    // writer `own` (0 = none) has changed itself: every other id must be complete, since a writer that was
    // running for the snapshot may have ended before the value was made.
    std::optional<std::uint64_t> put_generation(const SnapshotView& snapshot, Xid own) const noexcept;

  private:
    void drop(Xid dropped, const Moment* moment) noexcept;
};

// One cache line of shared memory. All fields but `seq` change only under `seq` odd; zero bytes are a valid
// empty slot.
struct alignas(64) SlotShared {
    std::atomic<std::uint32_t> seq;  // odd: locked. Release in unlock() pairs with acquire in read()
    std::atomic<std::uint32_t> n;    // its highest bit: settled
    std::atomic<std::uint64_t> gen;
    std::atomic<std::uint64_t> max_xid;
    std::atomic<std::uint64_t> dropped_max_xid;
    std::atomic<std::uint64_t> xid[kSlotIds];

    SlotHistory read() const noexcept;  // a consistent copy, without writing anything

    // The common case of the verdict, without a copy: no mark since the entry, and all marks are old. False
    // means that read().hit() has to decide.
    bool quiet_hit(std::uint64_t entry_gen, const SnapshotView& snapshot) const noexcept {
        const std::uint32_t before = seq.load(std::memory_order_acquire);
        const bool quiet = gen.load(std::memory_order_relaxed) == entry_gen &&
                           max_xid.load(std::memory_order_relaxed) < snapshot.xmin;
        std::atomic_thread_fence(std::memory_order_acquire);
        return quiet && (before & 1) == 0 && seq.load(std::memory_order_relaxed) == before;
    }
    SlotHistory read_locked() noexcept;                    // the same, under the lock
    bool mark(Xid writer, const Moment& moment) noexcept;  // false: the writer was remembered already

    std::uint32_t lock() noexcept;
    void unlock(std::uint32_t seq_before) noexcept;

  private:
#ifdef PROMPT_CACHE_TEST
    bool mark_in_halves(Xid writer, const Moment& moment) noexcept;
#endif
    SlotHistory copy() const noexcept;
    void assign(const SlotHistory& history) noexcept;
};
static_assert(sizeof(SlotShared) == 64);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace prompt_cache::core
