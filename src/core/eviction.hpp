// Which entry goes first: the eviction order of one namespace.
//
// Entries live in an arena in shared memory and carry an EvictionNodeShared, by which they hang in
// queues.  This file knows nothing else of them: an entry is an index, its node is at
// base + stride * index, and its size is a number of whatever the caller counts in (arena units,
// bytes, or 1 for "entries").
//
//   miss   while too full: victim(), let the entry go, evict();   then admit()
//   hit    touch()
//   gone   remove() - dropped or invalid, nothing worth remembering; replace() - a newer value of the same
//   key
//
// The caller decides when something must go and owns the bound; the policy only orders.  It takes what is
// resident when victim() is called as the capacity, so no capacity is configured here and several
// namespaces may share one arena whose parts move.
//
// Locking: every call but touch() needs the namespace's writer lock, and the ghost table the lock of
// all namespaces that use it.  touch() needs only that the entry cannot be freed meanwhile; it writes at
// most one byte, relaxed, and only when it changes.  A touch that races with an eviction may be lost: that
// costs one hit's worth of memory, never integrity.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace prompt_cache::core {

inline constexpr std::uint32_t kNoNode = UINT32_MAX;
// What one victim() looks at, at most.
inline constexpr int kEvictionInspections = 30;

// Part of every entry.  Set up by admit(); all zero is a fine state before it.
struct EvictionNodeShared {
    std::uint32_t prev;             // towards the newer end; writer lock
    std::uint32_t next;             // towards the older end; writer lock
    std::uint32_t size;             // as handed in; writer lock
    std::uint32_t fingerprint;      // of the key and the namespace; writer lock
    std::uint32_t stamp;            // the queue's clock at its last move; writer lock
    std::atomic<std::uint8_t> use;  // hits since the last look, saturating; any reader, relaxed
    std::uint8_t queue;             // which list it hangs in, 0 = none; writer lock
    std::uint8_t history;           // what the policy remembers of it; writer lock
    std::uint8_t spare;
};
static_assert(sizeof(EvictionNodeShared) == 24 && alignof(EvictionNodeShared) == 4);
static_assert(std::atomic<std::uint8_t>::is_always_lock_free);

// One key evicted lately.  All zero = empty.
struct EvictionGhostShared {
    std::uint32_t fingerprint;  // 0 = empty; ghost lock
    std::uint32_t stamp;        // the namespace's clock when it went, and from where; ghost lock
};
static_assert(sizeof(EvictionGhostShared) == 8);

struct EvictionListShared {
    std::uint32_t newest;
    std::uint32_t oldest;
    std::uint64_t bytes;
    std::uint32_t entries;
    std::uint32_t spare;
};
static_assert(sizeof(EvictionListShared) == 24);

// One per namespace; writer lock throughout.  init() makes it; zero bytes alone are not a valid state.
struct EvictionShared {
    EvictionListShared lists[4];
    std::uint64_t reserved[15];
    std::uint32_t salt;   // tells the namespaces apart in a ghost table they share
    std::uint32_t clock;  // admissions so far, wraps
};
static_assert(sizeof(EvictionShared) == 224);

// Asked of each inspected entry: has it expired or lost its validity?  A dead one goes at once.
using EvictionDeadFn = bool (*)(void* context, std::uint32_t index) noexcept;

// A view for the length of a few calls; holds this process's addresses, so never put it in shared memory.
class Eviction {
  public:
    // `nodes` is the address of the node of entry 0.  `ghosts` may be shared by several namespaces; zeroed at
    // first, `ghost_count` slots (rounded down to a multiple of 8; 0 = nothing is remembered).
    Eviction(EvictionShared& state, void* nodes, std::size_t stride, EvictionGhostShared* ghosts,
             std::uint32_t ghost_count) noexcept
        : state_(state),
          nodes_(static_cast<unsigned char*>(nodes)),
          stride_(stride),
          ghosts_(ghosts),
          ghost_count_(ghost_count) {}

    // Makes the namespace empty.  Forgets its entries without touching them: the caller frees them.
    static void init(EvictionShared& state, std::uint32_t namespace_id) noexcept;

    // A hit.  Any time, under no lock of this file.
    static void touch(const EvictionShared& state, EvictionNodeShared& node) noexcept;

    // A new entry.  `key_hash` is the same for the same key of the namespace, well mixed in all bits.
    void admit(std::uint32_t index, std::uint64_t key_hash, std::uint32_t size) noexcept;

    // Who should go, or kNoNode if nobody is left.  The entry stays until evict() or remove(); calling
    // again without either is allowed and may name another one (for an entry that is pinned).
    std::uint32_t victim(EvictionDeadFn dead, void* context) noexcept;

    // The victim has gone for want of room: its key is remembered for a while.
    void evict(std::uint32_t index) noexcept;
    // Gone for another reason, not remembered.
    void remove(std::uint32_t index) noexcept;
    // `to` (not admitted yet) takes the place and the merits of `from`, which is out afterwards.
    void replace(std::uint32_t from, std::uint32_t to, std::uint32_t size) noexcept;

    std::uint64_t bytes() const noexcept;
    std::uint32_t entries() const noexcept;

    // Walks every list: links, accounts and queue marks agree.  For self-checks; cost O(entries).
    bool consistent() const noexcept;

  private:
    EvictionNodeShared& node(std::uint32_t index) const noexcept {
        return *reinterpret_cast<EvictionNodeShared*>(nodes_ + stride_ * index);
    }
    void push_newest(std::uint8_t queue, std::uint32_t index) noexcept;
    void unlink(std::uint32_t index) noexcept;

    EvictionShared& state_;
    unsigned char* nodes_;
    std::size_t stride_;
    EvictionGhostShared* ghosts_;
    std::uint32_t ghost_count_;
};

}  // namespace prompt_cache::core
