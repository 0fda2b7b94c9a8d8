#include "cache/shared.hpp"

#include "cache/flight.hpp"
#include "cache/lease.hpp"
#include "cache/memory_internal.hpp"
#include "cache/saving.hpp"
#include "pg/settings.hpp"
#include "tier/redis_shared.hpp"

namespace prompt_cache {

SharedMemory shared;

namespace {

constexpr const char* kBlockName = "prompt_cache";
constexpr std::uint64_t kBytesPerPartition = 2 * 1024 * 1024;  // of memory_size, for each namespace's book-keeping

shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;

std::uint64_t block_size() {
    return static_cast<std::uint64_t>(settings::memory_size) * 1024;
}

std::uint64_t round_to_line(std::uint64_t offset) {
    return (offset + 63) / 64 * 64;
}

// Splits memory_size: what is not slots and control is shared out so that buckets and ghosts go with the
// number of entries that fit, taking 256 bytes as a small one.
void lay_out(ControlShared& control) {
    const std::uint64_t total = block_size();
    std::uint64_t slots = std::bit_ceil(static_cast<std::uint64_t>(settings::slots));
    while (slots > 1024 && slots * sizeof(core::SlotShared) > total / 4) slots /= 2;
    if (slots < static_cast<std::uint64_t>(settings::slots))
        ereport(
            LOG,
            (errmsg("prompt_cache: %llu slots instead of %d, since slots may take a quarter of memory_size",
                    static_cast<unsigned long long>(slots), settings::slots)));

    std::uint64_t at = round_to_line(sizeof(ControlShared));
    const std::uint64_t namespaces = std::clamp<std::uint64_t>(total / kBytesPerPartition, 8, kMaxPartitions - 1);
    const std::uint64_t partitions = 1 + namespaces;
    control.partition_count = static_cast<std::uint32_t>(partitions);
    control.partitions_offset = at;
    at = round_to_line(at + partitions * sizeof(PartitionShared));
    control.slots_offset = at;
    at += slots * sizeof(core::SlotShared);

    const std::uint64_t small_entries = (total - at) / 256;
    const std::uint64_t buckets = std::bit_ceil(small_entries) / 2;
    const std::uint64_t ghosts = small_entries / 8 * 8;
    control.buckets_offset = at;
    at = round_to_line(at + buckets * sizeof(BucketShared));
    control.ghosts_offset = at;
    at = round_to_line(at + ghosts * sizeof(core::EvictionGhostShared));

    control.flights_offset = at;
    at = round_to_line(at + kFlights * sizeof(FlightShared));
    control.leases_offset = at;
    at = round_to_line(at + sizeof(LeasesShared));
    control.saving_offset = at;
    at = round_to_line(at + sizeof(SavingShared));
    control.redis_offset = at;
    at = round_to_line(at + sizeof(RedisShared));

    // A unit of the arena needs its own bytes and one byte that counts its use.
    const std::uint64_t units =
        std::min<std::uint64_t>((total - at - 64) / (core::Arena::kUnitBytes + 1), core::Arena::kMaxUnits);
    control.uses_offset = at;
    at = round_to_line(at + units);
    control.arena_offset = at;
    at += units * core::Arena::kUnitBytes;

    control.slot_mask = static_cast<std::uint32_t>(slots - 1);
    control.bucket_mask = static_cast<std::uint32_t>(buckets - 1);
    control.ghost_count = static_cast<std::uint32_t>(ghosts);
    control.units = static_cast<std::uint32_t>(units);
    control.total_size = at;
}

void find_addresses(ControlShared* control) {
    auto* base = reinterpret_cast<std::byte*>(control);
    shared.control = control;
    shared.partitions = reinterpret_cast<PartitionShared*>(base + control->partitions_offset);
    shared.slots = reinterpret_cast<core::SlotShared*>(base + control->slots_offset);
    shared.buckets = reinterpret_cast<BucketShared*>(base + control->buckets_offset);
    shared.ghosts = reinterpret_cast<core::EvictionGhostShared*>(base + control->ghosts_offset);
    shared.uses = reinterpret_cast<std::atomic<std::uint8_t>*>(base + control->uses_offset);
    shared.arena_base = base + control->arena_offset;
    shared.slot_mask = control->slot_mask;
    shared.bucket_mask = control->bucket_mask;
    shared.units = control->units;
    shared.flights = reinterpret_cast<FlightShared*>(base + control->flights_offset);
    shared.space = &GetNamedLWLockTranche("prompt_cache")[0].lock;
    shared.flights_lock = &GetNamedLWLockTranche("prompt_cache")[1].lock;
    shared.saving = reinterpret_cast<SavingShared*>(base + control->saving_offset);
    shared.saving_lock = &GetNamedLWLockTranche("prompt_cache")[2].lock;
    shared.leases = reinterpret_cast<LeasesShared*>(base + control->leases_offset);
    shared.leases_lock = &GetNamedLWLockTranche("prompt_cache")[3].lock;
    redis_memory.state = reinterpret_cast<RedisShared*>(base + control->redis_offset);
    redis_memory.lock = &GetNamedLWLockTranche("prompt_cache")[4].lock;
}

void request_hook() {
    if (previous_request_hook) previous_request_hook();
    RequestAddinShmemSpace(block_size());
    RequestNamedLWLockTranche("prompt_cache", 5);
}

void startup_hook() {
    if (previous_startup_hook) previous_startup_hook();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    bool found = false;
    auto* control = static_cast<ControlShared*>(ShmemInitStruct(kBlockName, block_size(), &found));
    if (!found) {
        memset(static_cast<void*>(control), 0, sizeof(ControlShared));
        lay_out(*control);
        // The kernel hands out zeroed pages, but after a crash the same block is used again.
        auto* base = reinterpret_cast<std::byte*>(control);
        memset(base + control->partitions_offset, 0, control->arena_offset - control->partitions_offset);
    }
    find_addresses(control);
    if (!found) {
        core::Arena(&control->arena, shared.arena_base, shared.units).init();
        for (unsigned i = 0; i < control->partition_count; i++) {
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
