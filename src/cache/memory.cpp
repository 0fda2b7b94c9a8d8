#include "cache/memory.hpp"

#include <ctime>

#include "cache/memory_internal.hpp"
#include "cache/slots.hpp"
#include "pg/settings.hpp"

namespace prompt_cache {

namespace {

// Rows are numbered one after the other as a rule, and who is active now was often numbered together. So the
// low half, which chooses the bucket, counts on from key to key where the last digits do: buckets of
// neighbours share cache lines and pages, and a working set of a thousand needs two pages instead of a
// thousand. Chains are as long as those of a plain hash, since keys with one prefix and as many last digits have
// different buckets. The high half is a plain hash. The secret seeds both.
std::uint64_t hash_of(std::string_view key, std::uint64_t seed) noexcept {
    constexpr std::size_t kDigits = 3;
    std::uint32_t number = 0;
    std::uint32_t scale = 1;
    std::size_t prefix = key.size();
    for (; prefix > 0 && key.size() - prefix < kDigits; prefix--, scale *= 10) {
        const auto digit = static_cast<std::uint32_t>(key[prefix - 1] - '0');
        if (digit > 9) break;
        number += digit * scale;
    }
    const std::uint64_t hash = hash_combine64(
        hash_bytes_extended(reinterpret_cast<const unsigned char*>(key.data()), static_cast<int>(prefix),
                            shared.hash_secret ^ seed ^ static_cast<std::uint64_t>(scale) << 48),
        MyDatabaseId);
    const std::uint64_t high = murmurhash32(static_cast<std::uint32_t>(hash >> 32) ^ number);
    return high << 32 | (static_cast<std::uint32_t>(hash) + number);
}

}  // namespace

EntryKey::EntryKey(EntryKind entry_kind, std::string_view key_text, std::uint32_t of_wiring) noexcept
    : kind(entry_kind),
      wiring(of_wiring),
      text(key_text),
      hash(hash_of(key_text,
                   static_cast<std::uint64_t>(of_wiring) << 8 | static_cast<std::uint64_t>(kind))) {
#ifdef PROMPT_CACHE_TEST
    if (settings::one_hash) hash = 1;
#endif
}

namespace memory {

namespace {

constexpr int kReaderTries = 8;
constexpr std::uint32_t kNoLastMilli = UINT32_MAX;

// Reads part of an entry: straight from the arena where it lies in one piece, else piece by piece. May be
// torn.
bool read(const FoundEntry& found, std::size_t offset, void* to, std::size_t n) noexcept {
    if (offset + n > found.piece) return arena_view().read(found.unit, offset, to, n);
    memcpy(to, payload_at(found.unit) + offset, n);
    return true;
}

// A byte at a time: the key has just been written digit by digit, and a wide load would wait for those
// stores.
bool same_key(const char* stored, std::string_view key) noexcept {
    for (std::size_t i = 0; i < key.size(); i++)
        if (stored[i] != key[i]) return false;
    return true;
}

// Dependencies and key lie on the second line, the value begins there; the use is counted at the end.
void prefetch_at(std::uint32_t unit) noexcept {
    for (unsigned line = 0; line < 3; line++)
        __builtin_prefetch(payload_at(unit) + line * core::Arena::kUnitBytes);
    __builtin_prefetch(&shared.uses[unit]);
}

// Fills `found` with the header and tags of the entry at `unit`, if it has `key`. Everything may be torn.
bool matches(std::uint32_t unit, const EntryKey& key, FoundEntry& found) noexcept {
    const EntryShared& header = found.header;
    memcpy(static_cast<void*>(&found.header), payload_at(unit), sizeof(EntryShared));
    if (header.hash != key.hash || header.database != MyDatabaseId || header.kind != key.kind ||
        header.wiring != key.wiring || header.key_length != key.text.size() || header.tag_count > kMaxTags)
        return false;
    found.unit = unit;
    found.piece = piece_at(unit);
    const std::size_t tags_size = header.tag_count * sizeof(Dependency);
    const std::size_t key_offset = sizeof(EntryShared) + tags_size;
    // The first block of every value has room for the header and all tags (see kHeadBytes).
    memcpy(static_cast<void*>(found.dependencies), payload_at(unit) + sizeof(EntryShared),
           sizeof(found.dependencies));
    if (key_offset + key.text.size() <= found.piece)
        return same_key(reinterpret_cast<const char*>(payload_at(unit)) + key_offset, key.text);
    char text[kMaxKeyLength];
    return read(found, key_offset, text, key.text.size()) && same_key(text, key.text);
}

}  // namespace

std::int64_t now() noexcept {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return static_cast<std::int64_t>(time.tv_sec) * 1000000 + time.tv_nsec / 1000;
}

void prefetch(const EntryKey& key) noexcept {
    __builtin_prefetch(&bucket_of(key.hash));
}

void prefetch_value(const FoundEntry& found) noexcept {
    constexpr std::size_t kLines = 12;  // the processor goes on by itself, but not over the end of a page
    constexpr std::size_t kPage = 4096;
    const std::size_t end = std::min(found.value_offset() + found.header.value_length, found.piece);
    const std::byte* entry = payload_at(found.unit);
    for (std::size_t line = 3; line < kLines && line * core::Arena::kUnitBytes < end; line++)
        __builtin_prefetch(entry + line * core::Arena::kUnitBytes);
    const std::size_t next_page = kPage - reinterpret_cast<std::uintptr_t>(entry) % kPage;
    if (next_page < end) __builtin_prefetch(entry + next_page);
}

bool find(const EntryKey& key, FoundEntry& found) noexcept {
    if (key.text.size() > kMaxKeyLength) return false;
    found.bucket = &bucket_of(key.hash);
    for (int tries = 0; tries < kReaderTries; tries++) {
        found.seq = found.bucket->seq.load(std::memory_order_acquire);
        if (found.seq & 1) continue;
        bool matched = false;
        std::uint32_t unit = found.bucket->head.load(std::memory_order_relaxed);
        // A longer chain is one that changes under the reader.
        for (unsigned steps = 0; unit != 0 && unit < shared.units && steps < kMaxChain; steps++) {
            const auto* entry = reinterpret_cast<const EntryShared*>(payload_at(unit));
            prefetch_at(unit);
            if (__atomic_load_n(&entry->hash, __ATOMIC_RELAXED) == key.hash &&
                (matched = matches(unit, key, found)))
                break;
            unit = __atomic_load_n(&entry->next, __ATOMIC_RELAXED);
        }
        if (still_there(found)) return matched;
    }
    return false;
}

bool read_pointer(const FoundEntry& found, char* to) noexcept {
    return read(found, found.pointer_offset(), to, found.header.pointer_length);
}

bool read_value(const FoundEntry& found, char* to) noexcept {
    return read(found, found.value_offset(), to, found.header.value_length);
}

void count_use(const FoundEntry& found) noexcept {
    core::Eviction::touch(shared.partitions[found.header.partition].order, shared.uses[found.unit]);
}

namespace {

// An entry that no new snapshot will hit: too old, or one of its tags was marked since.
bool is_dead(void*, std::uint32_t unit) noexcept {
    const EntryShared& entry = entry_at(unit);
    if (entry.expires <= now()) return true;
    if (entry.flags & kByStamp) return !RecoveryInProgress();
    const Dependency* dependencies = dependencies_of(entry);
    for (unsigned i = 0; i < entry.tag_count; i++)
        if (shared.slots[dependencies[i].slot()].gen.load(std::memory_order_relaxed) != dependencies[i].gen())
            return true;
    return false;
}

// Under `space`.
void evict(std::uint32_t unit) noexcept {
    const unsigned partition = entry_at(unit).partition;
    if (entry_at(unit).expires <= now()) count(core::Counter::kExpirations, 1, partition);
    count(core::Counter::kEvictions, 1, partition);
    unlink_from_bucket(unit);
    eviction_view(partition).evict(unit);
    shared.partitions[partition].units -= arena_view().release(unit);
}

// Under `space`.
bool evict_from(unsigned partition) noexcept {
    const std::uint32_t victim = eviction_view(partition).victim(is_dead, nullptr);
    if (victim == core::kNoNode) return false;
    evict(victim);
    return true;
}

// Under `space`. Makes room for one more entry in the key's chain: the one that was linked first goes.
void shorten_chain(const EntryKey& key) noexcept {
    unsigned length = 0;
    std::uint32_t last = 0;
    for (std::uint32_t unit = bucket_of(key.hash).head.load(std::memory_order_relaxed); unit != 0;
         unit = entry_at(unit).next) {
        last = unit;
        length++;
    }
    if (length >= kMaxChain) evict(last);
}

// Under `space`. The partition to evict from when memory is short: the one that stores, once it has its fair
// share, else the largest. So no partition falls below its share because of others, and no share stays unused.
unsigned who_gives_way(unsigned partition) noexcept {
    unsigned largest = partition;
    unsigned users = 0;
    for (unsigned i = 0; i < shared.partition_count; i++) {
        users += shared.partitions[i].units > 0 || i == partition;
        if (shared.partitions[i].units > shared.partitions[largest].units) largest = i;
    }
    return shared.partitions[partition].units >= shared.units / users ? partition : largest;
}

// Under `space`. A partition with a limit counts entries, the others units of the arena.
std::uint32_t size_in(const PartitionShared& partition, std::uint32_t units) noexcept {
    return partition.limit > 0 ? 1 : units;
}

// Under `space`. Makes room by eviction; at most as many victims as even the smallest entries would need.
std::uint32_t allocate(std::size_t bytes, const EntryKey& key, unsigned number, bool is_new) noexcept {
    core::Arena arena = arena_view();
    const PartitionShared& partition = shared.partitions[number];
    core::Eviction eviction = eviction_view(number);
    const bool is_full = is_new && partition.limit > 0 && eviction.entries() >= partition.limit;
    // Is it worth what must go? That is asked only of who makes the room himself.
    if ((is_full || (!arena.fits(bytes) && who_gives_way(number) == number)) &&
        !eviction.admissible(key.hash, size_in(partition, core::Arena::units_for(bytes))))
        return 0;
    // A little room is kept free, so that values lie in one piece as a rule.
    const std::uint32_t reserve = shared.units / 64;
    std::uint64_t left = 64 + bytes / (core::Arena::kMinBlockUnits * core::Arena::kUnitBytes);
    while ((!arena.fits(bytes) || arena.free_units() < reserve) && left-- > 0)
        if (!evict_from(who_gives_way(number))) break;
    return arena.allocate(bytes);
}

// Up to a sixteenth less than the limit, so that entries stored together do not end together.
std::int64_t spread(std::int64_t lifetime, std::uint32_t serial) noexcept {
    return lifetime - lifetime / 16 * static_cast<std::int64_t>(murmurhash32(serial) % 1024) / 1024;
}

std::int64_t expiry(std::int64_t created, std::uint32_t serial, const NewEntry& entry) noexcept {
    const std::int64_t lifetime = std::min(entry.lifetime, longest_age());
    if (lifetime == INT64_MAX) return entry.deadline;
    return std::min(created + spread(lifetime, serial), entry.deadline);
}

std::uint32_t last_milli(std::int64_t created, std::int64_t deadline) noexcept {
    if (deadline == INT64_MAX) return kNoLastMilli;
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>((deadline - created) / 1000, 0, kNoLastMilli - 1));
}

// Nobody can reach the entry yet.
void fill(std::uint32_t unit, const EntryKey& key, const NewEntry& entry) noexcept {
    const core::Arena arena = arena_view();
    EntryShared header{};
    header.database = MyDatabaseId;
    header.hash = key.hash;
    header.created = now();
    header.value_length = static_cast<std::uint32_t>(entry.value.size());
    header.key_length = static_cast<std::uint16_t>(key.text.size());
    header.pointer_length = static_cast<std::uint16_t>(entry.pointer.size());
    header.kind = key.kind;
    header.partition = entry.partition;
    header.wiring = key.wiring;
    header.flags = entry.flags;
    header.tag_count = static_cast<std::uint8_t>(entry.dependencies.size());
    header.serial = shared.control->serial.fetch_add(1, std::memory_order_relaxed) + 1;
    header.expires = expiry(header.created, header.serial, entry);
    if (key.kind == EntryKind::kValue) header.last_milli = last_milli(header.created, entry.deadline);

    std::size_t at = 0;
    const auto append = [&](const void* bytes, std::size_t n) {
        arena.write(unit, at, bytes, n);
        at += n;
    };
    append(&header, sizeof(header));
    append(entry.dependencies.data(), entry.dependencies.size_bytes());
    append(key.text.data(), key.text.size());
    append(entry.pointer.data(), entry.pointer.size());
    append(entry.value.data(), entry.value.size());
}

// Of two entries with one key the one built later is worth more: readers with old snapshots must not replace
// it.
bool is_newer(const EntryShared& entry, const NewEntry& other) noexcept {
    const std::span<const Dependency> others = other.dependencies;
    if (entry.tag_count != others.size() || entry.expires <= now() ||
        ((entry.flags | other.flags) & kByStamp) != 0)
        return false;
    const Dependency* own = dependencies_of(entry);
    bool newer = false;
    for (std::size_t i = 0; i < others.size(); i++) {
        if (own[i].slot() != others[i].slot() || own[i].gen() < others[i].gen()) return false;
        newer |= own[i].gen() > others[i].gen();
    }
    return newer;
}

// Under `space`. The linked entry with this key, 0 = none.
std::uint32_t linked_entry(const EntryKey& key) noexcept {
    for (std::uint32_t unit = bucket_of(key.hash).head.load(std::memory_order_relaxed); unit != 0;
         unit = entry_at(unit).next) {
        FoundEntry found;
        if (matches(unit, key, found)) return unit;
    }
    return 0;
}

}  // namespace

std::int64_t longest_age() noexcept {
    return settings::memory_ttl == 0 ? INT64_MAX : static_cast<std::int64_t>(settings::memory_ttl) * 1000000;
}

std::int64_t latest_end(const EntryShared& header) noexcept {
    std::int64_t left = longest_age();
    if (header.last_milli != kNoLastMilli) left = std::min<std::int64_t>(left, header.last_milli * std::int64_t{1000});
    return left == INT64_MAX ? INT64_MAX : header.created + left;
}

// One value may not push everything else out.
std::size_t largest_value() noexcept {
    return std::min(static_cast<std::size_t>(settings::max_value_size) * 1024,
                    shared.units / 8 * core::Arena::kUnitBytes);
}

StoreResult store(const EntryKey& key, const NewEntry& entry) noexcept {
    const std::size_t bytes = sizeof(EntryShared) + entry.dependencies.size_bytes() + key.text.size() +
                              entry.pointer.size() + entry.value.size();
    if (entry.value.size() > largest_value() || key.text.size() > kMaxKeyLength ||
        entry.pointer.size() > (key.kind == EntryKind::kValue ? kMaxFurtherLength : kMaxKeyLength))
        return StoreResult::kTooLarge;

    PartitionShared& partition = shared.partitions[entry.partition];
    LWLockAcquire(shared.space, LW_EXCLUSIVE);
    const std::uint32_t unit = partition.claim == entry.claim
                                   ? allocate(bytes, key, entry.partition, linked_entry(key) == 0)
                                   : 0;
    LWLockRelease(shared.space);
    if (unit == 0) return StoreResult::kNoRoom;

    // From here to the linking nothing can raise an error or be interrupted, so the new entry cannot be lost.
    fill(unit, key, entry);

    core::Arena arena = arena_view();
    core::Eviction eviction = eviction_view(entry.partition);
    LWLockAcquire(shared.space, LW_EXCLUSIVE);
    const std::uint32_t old = linked_entry(key);
    if (old != 0 && entry_at(old).expires <= now()) count(core::Counter::kExpirations, 1, entry.partition);
    const bool marked =
        entry.unless_marked &&
        shared.slots[entry.unless_marked->slot()].read_locked().gen != entry.unless_marked->gen();
    if (marked || partition.claim != entry.claim || (old != 0 && is_newer(entry_at(old), entry))) {
        arena.release(unit);
        LWLockRelease(shared.space);
        return StoreResult::kNewerThere;
    }
    const std::uint32_t units = arena.footprint(unit).units;
    const std::uint32_t size = size_in(partition, units);
    partition.units += units;
    if (old != 0) {
        unlink_from_bucket(old);
        eviction.replace(old, unit, size);
        partition.units -= arena.release(old);
    } else {
        while (partition.limit > 0 && eviction.entries() >= partition.limit && evict_from(entry.partition)) continue;
        shorten_chain(key);
        eviction.admit(unit, key.hash, size);
    }
    link_to_bucket(unit);
    LWLockRelease(shared.space);
    return StoreResult::kStored;
}

}  // namespace memory
}  // namespace prompt_cache
