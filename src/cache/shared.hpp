// The one block of main shared memory, and where things lie in it.
//
//   ControlShared | partitions | slots | buckets | ghosts | flights | leases | saving | redis | uses | arena
//
// Its size is the setting memory_size: book-keeping, slots and values together (core/layout.hpp). It is reserved when the
// postmaster preloads the library and laid out by the shmem_startup_hook, which runs again after a crash:
// nothing of it may be remembered in a static that a forked backend inherits, except the addresses, which do
// not change.
//
// A backend of a server that does not preload finds no block: `shared` is empty and every lookup builds.
//
// Locks: `space` (an LWLock, exclusive) covers the arena, the eviction queues and every change of a bucket.
// Readers take no lock: a bucket's `seq` is odd while its chain changes and moves with each change, so that a
// reader who finds it unmoved after copying has copied something whole. Slots have a lock of their own
// (core/slot.hpp). Lock order: space, then nothing.
#pragma once

#include "core/arena.hpp"
#include "core/eviction.hpp"
#include "core/layout.hpp"
#include "core/slot.hpp"
#include "core/statistics.hpp"
#include "pg/hidden_inputs.hpp"
#include "core/wide_slot.hpp"
#include "pg/postgres.hpp"

namespace prompt_cache {

struct FlightShared;  // cache/flight.hpp
struct LeasesShared;  // cache/lease.hpp
struct SavingShared;  // cache/saving.hpp

struct BucketShared {
    std::atomic<std::uint32_t>
        seq;  // odd: changing. Written under `space`; release pairs with readers' acquire
    std::atomic<std::uint32_t> head;  // first entry's unit, 0 = none. Written under `space`
};
static_assert(sizeof(BucketShared) == 8);

struct ControlShared {
    core::Layout layout;        // constant, as the next one
    std::uint64_t hash_secret;  // see SharedMemory

    std::atomic<std::uint64_t> boot_xid;  // 0 until the first user as a primary; see primary_since()
    std::atomic<std::uint64_t> told_star;  // in recovery: as of which DDL all messages are known to be out; see cache/judge.cpp
    std::atomic<std::uint32_t> serial;    // numbers stored entries; relaxed, only told apart

    std::atomic<std::uint32_t> own_entries;  // entries that hold the wiring, not users' values; `space`

    core::ArenaShared arena;  // `space`
};

inline constexpr unsigned kMaxPartitions = 200;
inline constexpr std::uint8_t kNoPartition = 255;

// What a namespace's builder, as it was under this wiring, has read and nothing watches: a relation, or what a function
// reads besides its arguments.
struct GapShared {
    enum class Kind : std::uint8_t { kRelation, kFunction, kKeyword };

    std::uint32_t wiring;
    std::uint32_t object;  // an OID; of a keyword its SQLValueFunctionOp
    Kind kind;
    HiddenInput input;  // of a function

    bool operator==(const GapShared&) const = default;
};

// What one namespace has of the memory: its eviction order, its share and its counters. The first partition
// holds the prompts of all databases and what the extension remembers for itself; cache/partition.hpp shares
// out the others.
struct PartitionShared {
    static constexpr std::size_t kNameBytes = NAMEDATALEN;
    static constexpr unsigned kMaxGaps = 16;

    Oid database;         // 0 = nobody's; this and all up to `gap`: the lock `space`
    std::uint32_t claim;  // counts its owners
    std::uint32_t limit;  // entries, 0 = no limit of its own
    std::uint32_t units;  // of the arena
    std::int64_t used;    // when somebody asked for it last; monotonic microseconds
    char name[kNameBytes];
    std::uint32_t gap_count;
    GapShared gap[kMaxGaps];

    core::EvictionShared order;         // `space`
    core::StatisticsShared statistics;  // striped counters, relaxed
};

// Addresses of this process; null pointers where the library was not preloaded.
struct SharedMemory {
    ControlShared* control = nullptr;
    PartitionShared* partitions = nullptr;
    core::SlotShared* slots = nullptr;
    BucketShared* buckets = nullptr;
    core::EvictionGhostShared* ghosts = nullptr;
    std::atomic<std::uint8_t>* uses = nullptr;
    std::byte* arena_base = nullptr;
    FlightShared* flights = nullptr;
    LWLock* space = nullptr;
    LWLock* flights_lock = nullptr;
    SavingShared* saving = nullptr;
    LWLock* saving_lock = nullptr;
    LeasesShared* leases = nullptr;
    LWLock* leases_lock = nullptr;
    std::uint32_t slot_mask = 0;
    std::uint32_t wide_end = 0;  // slots below are lines of wide ones, wide_lines each, with room for wide_ids
    std::uint32_t wide_lines = 0;
    std::uint32_t wide_ids = 0;
    std::uint32_t bucket_mask = 0;
    std::uint32_t ghost_count = 0;
    std::uint32_t units = 0;
    std::uint32_t partition_count = 0;
    // Random, and another one after each start: seeds the hashes that choose buckets and slots, so that nobody can
    // choose keys that share one.
    std::uint64_t hash_secret = 0;

    explicit operator bool() const noexcept { return control != nullptr; }
};

extern SharedMemory shared;

// Counts an event for the view stats. Only where there is shared memory.
inline void count(core::Counter counter, std::uint64_t n = 1, unsigned partition = 0) noexcept {
    shared.partitions[partition].statistics.add(static_cast<unsigned>(backend_number()), counter, n);
}

// Installs the shared memory hooks. Call only while preloading.
void request_shared_memory();

}  // namespace prompt_cache
