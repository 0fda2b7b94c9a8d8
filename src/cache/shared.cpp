#include "cache/shared.hpp"

#include "cache/flight.hpp"
#include "cache/lease.hpp"
#include "cache/memory_internal.hpp"
#include "cache/saving.hpp"
#include "pg/settings.hpp"
#include "tier/redis_shared.hpp"

extern "C" {
#include "access/twophase.h"
}

namespace prompt_cache {

SharedMemory shared;

namespace {

constexpr const char* kBlockName = "prompt_cache";
constexpr std::uint64_t kBytesPerPartition = 2 * 1024 * 1024;  // of memory_size, for each namespace's book-keeping

shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;

core::Layout layout() {
    const std::uint64_t bytes = static_cast<std::uint64_t>(settings::memory_size) * 1024;
    const std::uint64_t namespaces = std::clamp<std::uint64_t>(bytes / kBytesPerPartition, 8, kMaxPartitions - 1);
    return core::lay_out({.bytes = bytes,
                          .slots = static_cast<std::uint64_t>(settings::slots),
                          .wide_ids = static_cast<std::uint64_t>(MaxBackends + max_prepared_xacts),
                          .partitions = 1 + namespaces,
                          .control_bytes = sizeof(ControlShared),
                          .partition_bytes = sizeof(PartitionShared),
                          .bucket_bytes = sizeof(BucketShared),
                          .fixed_bytes = {kFlights * sizeof(FlightShared), sizeof(LeasesShared),
                                          sizeof(SavingShared), sizeof(RedisShared)}});
}

void find_addresses(ControlShared* control) {
    auto* base = reinterpret_cast<std::byte*>(control);
    const core::Layout& layout = control->layout;
    shared.control = control;
    shared.partitions = reinterpret_cast<PartitionShared*>(base + layout.partitions_offset);
    shared.slots = reinterpret_cast<core::SlotShared*>(base + layout.slots_offset);
    shared.buckets = reinterpret_cast<BucketShared*>(base + layout.buckets_offset);
    shared.ghosts = reinterpret_cast<core::EvictionGhostShared*>(base + layout.ghosts_offset);
    shared.flights = reinterpret_cast<FlightShared*>(base + layout.fixed_offset[0]);
    shared.leases = reinterpret_cast<LeasesShared*>(base + layout.fixed_offset[1]);
    shared.saving = reinterpret_cast<SavingShared*>(base + layout.fixed_offset[2]);
    redis_memory.state = reinterpret_cast<RedisShared*>(base + layout.fixed_offset[3]);
    shared.uses = reinterpret_cast<std::atomic<std::uint8_t>*>(base + layout.uses_offset);
    shared.arena_base = base + layout.arena_offset;
    shared.slot_mask = static_cast<std::uint32_t>(layout.slots - 1);
    shared.wide_lines = static_cast<std::uint32_t>(layout.wide_lines);
    shared.wide_end = static_cast<std::uint32_t>(layout.wide_lines * layout.wide_slots);
    shared.wide_ids = static_cast<std::uint32_t>(layout.wide_ids);
    shared.bucket_mask = static_cast<std::uint32_t>(layout.buckets - 1);
    shared.ghost_count = static_cast<std::uint32_t>(layout.ghosts);
    shared.units = static_cast<std::uint32_t>(layout.units);
    shared.partition_count = static_cast<std::uint32_t>(layout.partitions);
    shared.hash_secret = control->hash_secret;
    LWLockPadded* locks = GetNamedLWLockTranche("prompt_cache");
    shared.space = &locks[0].lock;
    shared.flights_lock = &locks[1].lock;
    shared.saving_lock = &locks[2].lock;
    shared.leases_lock = &locks[3].lock;
    redis_memory.lock = &locks[4].lock;
}

std::uint64_t new_hash_secret() {
#ifdef PROMPT_CACHE_TEST
    if (settings::hash_secret >= 0) return static_cast<std::uint64_t>(settings::hash_secret);
#endif
    std::uint64_t secret = 0;
    if (!pg_strong_random(&secret, sizeof(secret)))
        ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("prompt_cache could not get random bytes")));
    return secret;
}

void request_hook() {
    if (previous_request_hook) previous_request_hook();
    RequestAddinShmemSpace(layout().bytes);
    RequestNamedLWLockTranche("prompt_cache", 5);
}

void startup_hook() {
    if (previous_startup_hook) previous_startup_hook();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    const core::Layout wanted = layout();
    bool found = false;
    auto* control = static_cast<ControlShared*>(ShmemInitStruct(kBlockName, wanted.bytes, &found));
    if (!found) {
        // The kernel hands out zeroed pages, but after a crash the same block is used again.
        memset(static_cast<void*>(control), 0, wanted.arena_offset);
        control->layout = wanted;
        control->hash_secret = new_hash_secret();
        if (wanted.slots < static_cast<std::uint64_t>(settings::slots))
            ereport(LOG,
                    (errmsg("prompt_cache: %llu slots instead of %d, since slots may take a quarter of memory_size",
                            static_cast<unsigned long long>(wanted.slots), settings::slots)));
    }
    find_addresses(control);
    if (!found) {
        core::Arena(&control->arena, shared.arena_base, shared.units).init();
        for (unsigned i = 0; i < shared.partition_count; i++) {
            core::Eviction::init(shared.partitions[i].order, i);
            shared.partitions[i].statistics.reset(GetCurrentTimestamp());
        }
        for (unsigned i = 0; i < kFlights; i++) ConditionVariableInit(&shared.flights[i].landed);
    }
    LWLockRelease(AddinShmemInitLock);
}

}  // namespace

void request_shared_memory() {
    previous_request_hook = shmem_request_hook;
    shmem_request_hook = request_hook;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = startup_hook;
}

}  // namespace prompt_cache
