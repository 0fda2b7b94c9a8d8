// Which entry goes first: the eviction order of one namespace.
//
// Entries live in an arena in shared memory and carry an EvictionNodeShared, by which they hang in lists.
// This file uses nothing else of them: an entry is an index, its node is at base + stride * index, and its
// size is a number of whatever the caller counts in (arena units, bytes, or 1 for "entries").
//
//   hit    touch()
//   miss   while too full { admissible() once; victim(), evict() } ; then admit()
//   gone   remove() - dropped or invalid, nothing worth remembering; replace() - a newer value of the same
//   key
//
// The caller decides when something must go and owns the bound; the policy only orders.  It takes what is
// resident as the capacity, so nothing is configured here and namespaces may share one arena whose parts
// move.
//
// The order is that of the better of two policies, LRU and S3-FIFO.  Each wins by many points where the other
// is weak (conversations; web pages), so both are played on a small sample of the keys and the entries
// follow the one that would have hit more; eviction.cpp tells how.  One queue whose share adapts to hits
// among the ghosts (as ARC does) was measured too: it stays up to eleven points behind the better one.
//
// Costs: 24 bytes an entry, 8 bytes a ghost slot (one or two slots an expected entry), 46 KB a namespace.
//
// Locking: every call but touch() needs the namespace's writer lock, and the ghost table a lock of all the
// namespaces that share it.  touch() needs only that the entry is not freed meanwhile; it writes at most one
// byte, relaxed, and only when that changes.  A touch that races with an inspection may be lost: that costs
// one hit's worth of memory, never integrity.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "eviction_duel.hpp"

namespace prompt_cache::core {

inline constexpr std::uint32_t kNoNode = UINT32_MAX;
// What one victim() looks at, at most.
inline constexpr int kEvictionInspections = 30;
// Generations that LRU order is kept in.
inline constexpr std::uint32_t kEvictionBuckets = 32;

// Part of every entry.  Made by admit(); all zero is a fine state before it.
struct EvictionNodeShared {
    std::uint32_t newer;        // kNoNode at the end; writer lock
    std::uint32_t older;        // kNoNode at the end; writer lock
    std::uint32_t size;         // as handed in; writer lock
    std::uint32_t fingerprint;  // of key and namespace; writer lock
    std::uint32_t epoch;        // when it took its place; writer lock
    std::uint8_t queue;         // EvictionQueue it hangs in; writer lock
    std::uint16_t watch;        // 1 + its place among the watched, 0 = not in the sample; writer lock
};
static_assert(sizeof(EvictionNodeShared) == 24 && alignof(EvictionNodeShared) == 4);
static_assert(std::atomic<std::uint8_t>::is_always_lock_free);

// How an entry was used: the epoch of its last hit * 4 + hits, saturating.  Any reader writes it, relaxed. It
// lies in an array of its own, by the entry's index, so that a reader that comes too late writes into
// nobody's value.
using EvictionUseShared = std::atomic<std::uint8_t>;

// A key evicted lately.  All zero = empty.
struct EvictionGhostShared {
    std::uint32_t fingerprint;  // 0 = empty; ghost lock
    std::uint32_t stamp;        // how much the namespace had remembered before, see stamp(); ghost lock
};
static_assert(sizeof(EvictionGhostShared) == 8);

struct EvictionListShared {
    std::uint32_t newest;
    std::uint32_t oldest;
};

// One per namespace; writer lock throughout, but for `hit_epoch`.  Made by init(); zero bytes are not a valid
// state.
struct EvictionShared {
    std::atomic<std::uint8_t>
        hit_epoch;  // epoch * 4, low bits; written under the writer lock, read by touch()
    std::uint8_t follows_lru;
    std::uint16_t unused;
    std::uint32_t epoch;
    std::uint32_t oldest_epoch;  // of the buckets; what is older hangs in this one too
    std::uint32_t admitted;      // in this epoch
    std::uint32_t salt;          // tells the namespaces apart in a ghost table they share
    std::uint32_t small_entries;
    std::uint32_t main_entries;
    std::uint64_t remembered;    // sizes of the keys, so far
    std::uint64_t small_bytes;
    std::uint64_t main_bytes;
    std::uint64_t capacity;                        // as told, 0 = not known
    std::uint64_t room;                            // what it has been filled to lately
    EvictionListShared small;                      // S3-FIFO's small queue, by age
    EvictionListShared buckets[kEvictionBuckets];  // the main queue, cut by epoch
    DuelShared duel;
};

// Asked of each inspected entry: has it expired or lost its validity?  A dead one goes at once.
using EvictionDeadFn = bool (*)(void* context, std::uint32_t index) noexcept;

// A view for the length of a few calls; holds this process's addresses, so never put it in shared memory.
class Eviction {
  public:
    // `nodes` is the address of the node of entry 0, `uses` that of its use.  `ghosts` may be shared by
    // several namespaces; zeroed at first, `ghost_count` slots (rounded down to a multiple of 8; none =
    // nothing is remembered).
    Eviction(EvictionShared& state, void* nodes, std::size_t stride, EvictionUseShared* uses,
             EvictionGhostShared* ghosts, std::uint32_t ghost_count) noexcept
        : state_(state),
          nodes_(static_cast<unsigned char*>(nodes)),
          stride_(stride),
          uses_(uses),
          ghosts_(ghosts),
          ghost_buckets_(ghost_count / kGhostWays) {}

    // Makes the namespace empty.  Forgets its entries without touching them: the caller frees them.
    static void init(EvictionShared& state, std::uint32_t namespace_id) noexcept;

    // What the namespace may hold, in the unit of the sizes, where it has a bound of its own; may change at
    // any time, evicts nothing.  0 (as at first) = not known: then it is taken to be what it was filled to
    // lately.
    void set_capacity(std::uint64_t capacity) noexcept;

    // A hit.  Any time, under no lock of this file.
    static void touch(const EvictionShared& state, EvictionUseShared& entry) noexcept {
        const std::uint8_t use = entry.load(std::memory_order_relaxed);
        const std::uint8_t hits = use & kHits;
        const auto now = static_cast<std::uint8_t>(state.hit_epoch.load(std::memory_order_relaxed) |
                                                   (hits < kHits ? hits + 1 : kHits));
        if (now != use) entry.store(now, std::memory_order_relaxed);
    }

    // How often it was hit lately, 0 to 3, for a view.
    static std::uint8_t hits(const EvictionUseShared& entry) noexcept {
        return entry.load(std::memory_order_relaxed) & kHits;
    }

    // How hot it is: 0 = never hit, else the later its last hit the more, then the number of hits. Wraps
    // after many turns of the whole, so it is for comparing what is there now.
    static std::uint32_t heat(const EvictionShared& state, const EvictionUseShared& entry) noexcept {
        const std::uint8_t use = entry.load(std::memory_order_relaxed);
        if ((use & kHits) == 0) return 0;
        const auto age =
            static_cast<std::uint8_t>(state.hit_epoch.load(std::memory_order_relaxed) - (use & ~kHits));
        return 256u - age + (use & kHits);
    }

    // Is a new entry worth the room that must be made for it?  S3-FIFO refuses what is larger than its small
    // queue, a quarter of the whole, and hits more for it; while LRU leads, and while there is room (do not
    // ask then), everything is let in.  After false nothing need be evicted and admit() should not follow; a
    // caller that lets the entry in all the same does no harm.  `key_hash` is the same for the same key.
    bool admissible(std::uint64_t key_hash, std::uint32_t size) noexcept;

    // A new entry.
    void admit(std::uint32_t index, std::uint64_t key_hash, std::uint32_t size) noexcept;

    // Who should go, or kNoNode if nobody is left.  It stays in its place until evict() or remove().
    std::uint32_t victim(EvictionDeadFn dead, void* context) noexcept;
    // The victim has gone for want of room: its key is remembered for a while.
    void evict(std::uint32_t index) noexcept;
    // Gone for another reason, not remembered.
    void remove(std::uint32_t index) noexcept;
    // `to` (not admitted yet) takes the place and the merits of `from`, which is out afterwards.
    void replace(std::uint32_t from, std::uint32_t to, std::uint32_t size) noexcept;

    std::uint64_t bytes() const noexcept { return state_.small_bytes + state_.main_bytes; }
    std::uint32_t entries() const noexcept { return state_.small_entries + state_.main_entries; }

    // Walks every list: links, accounts and marks agree.  For self-checks; cost O(entries).
    bool consistent() const noexcept;

  private:
    static constexpr std::uint8_t kHits = 3;
    static constexpr std::uint32_t kGhostWays = 8;

    EvictionNodeShared& node(std::uint32_t index) const noexcept {
        return *reinterpret_cast<EvictionNodeShared*>(nodes_ + stride_ * index);
    }
    EvictionListShared& list_of(const EvictionNodeShared& entry) const noexcept;
    std::uint32_t fingerprint(std::uint64_t key_hash) const noexcept;
    std::uint32_t last_hit(std::uint32_t index) const noexcept;
    std::uint32_t oldest_in_main() noexcept;
    bool small_goes(std::uint32_t small, std::uint32_t main) const noexcept;
    void link(std::uint32_t index, std::uint8_t queue, std::uint32_t epoch, std::uint8_t hits) noexcept;
    void unlink(std::uint32_t index) noexcept;
    void count_admission() noexcept;
    void begin_epoch() noexcept;

    EvictionGhostShared* ghost_bucket(std::uint32_t fingerprint) const noexcept;
    std::uint32_t stamp() const noexcept;
    bool take_ghost(std::uint32_t fingerprint, std::uint32_t size) noexcept;
    void remember(std::uint32_t fingerprint, std::uint32_t size) noexcept;

    void play(std::uint32_t fingerprint, std::uint32_t size, std::uint32_t hits = 1) noexcept;
    void play_hit(std::uint32_t index) noexcept;
    void watch(std::uint32_t index) noexcept;
    void unwatch(EvictionNodeShared& entry) noexcept;
    bool large(std::uint32_t size) const noexcept;
    bool in_sample(const EvictionNodeShared& entry) const noexcept;
    void fit_sample() noexcept;

    EvictionShared& state_;
    unsigned char* nodes_;
    std::size_t stride_;
    EvictionUseShared* uses_;
    EvictionGhostShared* ghosts_;
    std::uint32_t ghost_buckets_;
};

}  // namespace prompt_cache::core
