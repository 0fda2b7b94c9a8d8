// Tier 1 seen as a whole: listing, dropping, accounts. Nothing here is on the way of a lookup.
#include "cache/memory_internal.hpp"

namespace prompt_cache::memory {

namespace {

// A stretch of buckets worked on under one hold of `space`, so that stores wait for microseconds only.
constexpr std::uint32_t kBucketsAtOnce = 256;

// Under `space`. Unlinks and frees; not remembered as an eviction.
void drop(std::uint32_t unit) noexcept {
    const unsigned partition = entry_at(unit).partition;
    unlink_from_bucket(unit);
    eviction_view(partition).remove(unit);
    shared.partitions[partition].units -= arena_view().release(unit);
}

// Calls `visit` for every entry, which may drop it. Returns the sum of what it says.
template <typename Visit>
std::int64_t walk(Visit visit) noexcept {
    std::int64_t sum = 0;
    for (std::uint64_t first = 0; first <= shared.bucket_mask; first += kBucketsAtOnce) {
        const std::uint64_t end = std::min<std::uint64_t>(first + kBucketsAtOnce, shared.bucket_mask + 1ULL);
        LWLockAcquire(shared.space, LW_EXCLUSIVE);
        for (std::uint64_t i = first; i < end; i++) {
            std::uint32_t unit = shared.buckets[i].head.load(std::memory_order_relaxed);
            while (unit != 0) {
                const std::uint32_t next = entry_at(unit).next;
                sum += visit(unit);
                unit = next;
            }
        }
        LWLockRelease(shared.space);
    }
    return sum;
}

template <typename Concerns>
std::int64_t drop_where(Concerns concerns) noexcept {
    return walk([&](std::uint32_t unit) {
        if (!concerns(entry_at(unit))) return false;
        // What the extension remembers for itself does not count as an entry.
        const bool counts = !is_own(entry_at(unit));
        drop(unit);
        return counts;
    });
}

}  // namespace

std::int64_t drop_database(Oid database) noexcept {
    return drop_where([=](const EntryShared& entry) { return entry.database == database; });
}

std::int64_t drop_partition(unsigned partition) noexcept {
    return drop_where([=](const EntryShared& entry) { return entry.partition == partition; });
}

std::int64_t walk_prefix(unsigned partition, std::string_view prefix, WithPrefix what) noexcept {
    char key[kMaxKeyLength];
    return walk([&](std::uint32_t unit) {
        const EntryShared& entry = entry_at(unit);
        if (entry.partition != partition || entry.key_length < prefix.size() ||
            !arena_view().read(unit, sizeof(EntryShared) + entry.tag_count * sizeof(Dependency), key,
                               prefix.size()) ||
            std::string_view(key, prefix.size()) != prefix)
            return false;
        if (what == WithPrefix::kDrop) drop(unit);
        return true;
    });
}

void extend(const FoundEntry& found, std::int64_t expires) noexcept {
    LWLockAcquire(shared.space, LW_EXCLUSIVE);
    if (still_there(found))
        std::atomic_ref(entry_at(found.unit).expires).store(expires, std::memory_order_relaxed);
    LWLockRelease(shared.space);
}

void set_noted(const FoundEntry& found, std::uint32_t composition) noexcept {
    LWLockAcquire(shared.space, LW_EXCLUSIVE);
    if (still_there(found))
        std::atomic_ref(entry_at(found.unit).noted).store(composition, std::memory_order_relaxed);
    LWLockRelease(shared.space);
}

std::string_view user_key_at(std::uint64_t hash, char* buffer) noexcept {
    std::size_t length = 0;
    LWLockAcquire(shared.space, LW_SHARED);
    for (std::uint32_t unit = bucket_of(hash).head.load(std::memory_order_relaxed); unit != 0;
         unit = entry_at(unit).next) {
        const EntryShared& entry = entry_at(unit);
        if (entry.hash != hash || entry.kind != EntryKind::kUser || entry.database != MyDatabaseId) continue;
        length = entry.key_length;
        arena_view().read(unit, sizeof(EntryShared) + entry.tag_count * sizeof(Dependency), buffer, length);
        break;
    }
    LWLockRelease(shared.space);
    return {buffer, length};
}

int used_share() noexcept {
    return static_cast<int>(static_cast<std::uint64_t>(arena_view().used_units()) * 100 / shared.units);
}

std::uint64_t bytes_of_share(int percent) noexcept {
    return static_cast<std::uint64_t>(shared.units) * core::Arena::kUnitBytes *
           static_cast<std::uint64_t>(percent) / 100;
}

bool next_entry(ListCursor& cursor, ListedEntry& listed) noexcept {
    const core::Arena arena = arena_view();
    for (; cursor.bucket <= shared.bucket_mask; cursor.bucket++, cursor.skip = 0) {
        const BucketShared& bucket = shared.buckets[cursor.bucket];
        if (bucket.head.load(std::memory_order_relaxed) == 0) continue;
        bool got = false;
        std::uint32_t position = 0;
        LWLockAcquire(shared.space, LW_SHARED);
        for (std::uint32_t unit = bucket.head.load(std::memory_order_relaxed); unit != 0 && !got;
             unit = entry_at(unit).next) {
            const EntryShared& entry = entry_at(unit);
            if (position++ < cursor.skip || entry.database != MyDatabaseId || is_own(entry)) continue;
            FoundEntry& found = listed.entry;
            memcpy(static_cast<void*>(&found.header), &entry, sizeof(entry));
            memcpy(static_cast<void*>(found.dependencies), dependencies_of(entry),
                   entry.tag_count * sizeof(Dependency));
            found.unit = unit;
            found.bucket = &bucket;
            found.seq = bucket.seq.load(std::memory_order_relaxed);
            arena.read(unit, sizeof(EntryShared) + entry.tag_count * sizeof(Dependency), listed.key,
                       entry.key_length);
            listed.bytes = arena.footprint(unit).units * core::Arena::kUnitBytes;
            listed.frequency = core::Eviction::hits(shared.uses[unit]);
            listed.heat = core::Eviction::heat(shared.partitions[entry.partition].order, shared.uses[unit]);
            cursor.skip = position;
            got = true;
        }
        LWLockRelease(shared.space);
        if (got) return true;
    }
    return false;
}

Usage usage() noexcept {
    Usage usage;
    const ControlShared& control = *shared.control;
    usage.bytes = static_cast<std::uint64_t>(arena_view().used_units()) * core::Arena::kUnitBytes;
    const std::uint32_t all = control.arena.allocations.load(std::memory_order_relaxed);
    const std::uint32_t own = control.own_entries.load(std::memory_order_relaxed);
    usage.entries = all > own ? all - own : 0;  // two loads: a store may fall between them
    usage.fixed_bytes = control.layout.arena_offset;
    usage.total_bytes = control.layout.bytes;
    return usage;
}

PartitionUsage usage_of(unsigned partition) noexcept {
    LWLockAcquire(shared.space, LW_SHARED);
    PartitionUsage usage;
    usage.bytes = static_cast<std::uint64_t>(shared.partitions[partition].units) * core::Arena::kUnitBytes;
    usage.entries = eviction_view(partition).entries();
    if (partition == 0) usage.entries -= shared.control->own_entries.load(std::memory_order_relaxed);
    LWLockRelease(shared.space);
    return usage;
}

#ifdef PROMPT_CACHE_TEST
bool consistent() noexcept {
    LWLockAcquire(shared.space, LW_EXCLUSIVE);
    const core::Arena arena = arena_view();
    std::uint64_t entries[kMaxPartitions] = {};
    std::uint64_t units[kMaxPartitions] = {};
    for (std::uint64_t i = 0; i <= shared.bucket_mask; i++)
        for (std::uint32_t unit = shared.buckets[i].head.load(std::memory_order_relaxed); unit != 0;
             unit = entry_at(unit).next) {
            entries[entry_at(unit).partition]++;
            units[entry_at(unit).partition] += arena.footprint(unit).units;
        }
    bool agree = arena.check();
    std::uint64_t all_entries = 0;
    std::uint64_t all_units = 0;
    for (unsigned i = 0; i < shared.partition_count; i++) {
        const PartitionShared& partition = shared.partitions[i];
        const core::Eviction eviction = eviction_view(i);
        agree = agree && eviction.consistent() && eviction.entries() == entries[i] &&
                eviction.bytes() == (partition.limit > 0 ? entries[i] : units[i]) &&
                partition.units == units[i];
        all_entries += entries[i];
        all_units += units[i];
    }
    agree = agree && shared.control->arena.allocations.load() == all_entries && arena.used_units() == all_units;
    LWLockRelease(shared.space);
    return agree;
}

unsigned longest_chain() noexcept {
    unsigned longest = 0;
    LWLockAcquire(shared.space, LW_SHARED);
    for (std::uint64_t i = 0; i <= shared.bucket_mask; i++) {
        unsigned length = 0;
        for (std::uint32_t unit = shared.buckets[i].head.load(std::memory_order_relaxed); unit != 0;
             unit = entry_at(unit).next)
            length++;
        longest = std::max(longest, length);
    }
    LWLockRelease(shared.space);
    return longest;
}
#endif

}  // namespace prompt_cache::memory
