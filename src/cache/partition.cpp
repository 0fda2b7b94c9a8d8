#include "cache/partition.hpp"

#include "cache/memory_internal.hpp"

namespace prompt_cache::partition {

namespace {

unsigned count() noexcept {
    return shared.partition_count;
}

bool is_of(const PartitionShared& partition, std::string_view name) noexcept {
    return partition.database == MyDatabaseId && name == partition.name;
}

// Under `space`. kNoPartition if the namespace has none.
std::uint8_t number_of(std::string_view name) noexcept {
    for (unsigned i = 1; i < count(); i++)
        if (is_of(shared.partitions[i], name)) return static_cast<std::uint8_t>(i);
    return kNoPartition;
}

// Under `space`. Nobody's, else the empty one that was asked for longest ago.
std::uint8_t spare() noexcept {
    std::uint8_t best = kNoPartition;
    for (unsigned i = 1; i < count(); i++) {
        const PartitionShared& partition = shared.partitions[i];
        if (partition.database == InvalidOid) return static_cast<std::uint8_t>(i);
        if (partition.units == 0 && (best == kNoPartition || partition.used < shared.partitions[best].used))
            best = static_cast<std::uint8_t>(i);
    }
    return best;
}

void begin_anew(PartitionShared& partition, unsigned number, std::uint32_t limit) noexcept {
    core::Eviction::init(partition.order, number);
    partition.limit = limit;
    memory::eviction_view(number).set_capacity(limit);
}

void take(PartitionShared& partition, unsigned number, std::string_view name, std::uint32_t limit) noexcept {
    partition.database = MyDatabaseId;
    partition.claim++;
    partition.gap_count = 0;
    memcpy(partition.name, name.data(), name.size());
    partition.name[name.size()] = '\0';
    partition.statistics.reset(GetCurrentTimestamp());
    begin_anew(partition, number, limit);
}

void leave(PartitionShared& partition) noexcept {
    partition.database = InvalidOid;
    partition.claim++;
}

}  // namespace

PartitionRef claim(std::string_view name, std::uint32_t limit) noexcept {
    if (name.size() >= PartitionShared::kNameBytes) return {};
    for (;;) {
        LWLockAcquire(shared.space, LW_EXCLUSIVE);
        std::uint8_t number = number_of(name);
        const bool is_new = number == kNoPartition;
        if (is_new) number = spare();
        if (number == kNoPartition) {
            LWLockRelease(shared.space);
            return {};
        }
        PartitionShared& partition = shared.partitions[number];
        const bool same_kind = !is_new && (partition.limit > 0) == (limit > 0);
        if (same_kind || partition.units == 0) {
            if (is_new)
                take(partition, number, name, limit);
            else if (!same_kind)
                begin_anew(partition, number, limit);
            else if (partition.limit != limit) {
                partition.limit = limit;
                memory::eviction_view(number).set_capacity(limit);
            }
            partition.used = memory::now();
            const PartitionRef ref{number, partition.claim};
            LWLockRelease(shared.space);
            return ref;
        }
        LWLockRelease(shared.space);
        memory::drop_partition(number);
    }
}

PartitionRef find(std::string_view name) noexcept {
    PartitionRef ref;
    LWLockAcquire(shared.space, LW_SHARED);
    ref.number = number_of(name);
    if (ref.number != kNoPartition) ref.claim = shared.partitions[ref.number].claim;
    LWLockRelease(shared.space);
    return ref;
}

void release(std::string_view name) noexcept {
    for (;;) {
        LWLockAcquire(shared.space, LW_EXCLUSIVE);
        const std::uint8_t number = number_of(name);
        const bool is_empty = number != kNoPartition && shared.partitions[number].units == 0;
        if (is_empty) leave(shared.partitions[number]);
        LWLockRelease(shared.space);
        if (number == kNoPartition || is_empty) return;
        memory::drop_partition(number);
    }
}

void note_gap(const PartitionRef& ref, const GapShared& gap) noexcept {
    if (!ref.holds()) return;
    PartitionShared& partition = shared.partitions[ref.number];
    LWLockAcquire(shared.space, LW_EXCLUSIVE);
    // Old snapshots build under an old wiring beside the new one: neither's gaps push out the other's while there
    // is room.
    GapShared* const end = partition.gap + partition.gap_count;
    if (std::find(partition.gap, end, gap) == end) {
        GapShared* place = end;
        if (partition.gap_count == PartitionShared::kMaxGaps)
            place = std::find_if(partition.gap, end, [&](const GapShared& other) { return other.wiring != gap.wiring; });
        else
            partition.gap_count++;
        if (place != partition.gap + PartitionShared::kMaxGaps) *place = gap;
    }
    LWLockRelease(shared.space);
}

void forget_database(Oid database) noexcept {
    LWLockAcquire(shared.space, LW_EXCLUSIVE);
    for (unsigned i = 1; i < count(); i++) {
        PartitionShared& partition = shared.partitions[i];
        if (partition.database == database && partition.units == 0) leave(partition);
    }
    LWLockRelease(shared.space);
}

}  // namespace prompt_cache::partition
