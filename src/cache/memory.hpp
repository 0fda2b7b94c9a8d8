// Tier 1: entries in shared memory, found by key, copied without a lock, judged by their slots.
//
// An entry is one value of the arena (core/arena.hpp): a fixed header, then its dependencies, its key, a
// second key it points to (a user's tenant), and the value. It hangs in one bucket's chain and in one
// eviction queue.
//
// Readers write nothing and wait for nobody. They copy what they need and then ask whether the bucket's `seq`
// has moved; whatever unlinks an entry moves it first, and memory is reused only after that, so an unmoved
// number means that what was copied was whole and current. Torn bytes are thrown away unread. The nearest
// rejected way is a shared LWLock a bucket: two atomic writes to a line that every reader of a hot key wants.
//
// Writers (stores, evictions, clear) take the one lock `space`. A store costs a build before it, so that one
// lock does not become the limit. It is never held over the copying of a value: a new entry is filled while
// nobody can reach it.
//
// The count of an entry's use lies outside of it, a byte a unit: a reader may count an entry that has just
// been freed, and must not write into what is now somebody else's value.
#pragma once

#include "cache/shared.hpp"
#include "core/slot.hpp"
#include "pg/postgres.hpp"
#include "tier/nonce.hpp"
#include "tier/tag.hpp"

namespace prompt_cache {

// What kind of entry it is. Stored values; part of every key.
enum class EntryKind : std::uint8_t { kApplication = 1, kTenant, kUser, kValue, kAttachment, kNamespace, kStamp };

inline constexpr std::size_t kMaxKeyLength = 1024;
inline constexpr std::size_t kMaxFurtherLength = 8 * 1024;  // of a namespace's value: its further dependencies
inline constexpr unsigned kMaxTags = 2;  // its own and `*`

enum EntryFlag : std::uint8_t {
    kFound = 1,       // the row exists; without it the value is a remembered absence
    kHasPointer = 2,  // the second key is not NULL
    kByStamp = 4,     // dependencies are stamps, made in recovery
    kHasGap = 8,      // its builder has read what nothing watches: only as fresh as its time to live
    kPut = 16,        // by an application, not by a builder
    kHasDeadline = 32,  // what it was made from ends at a time: no hit puts that off
    kUnlogged = 64,   // it hangs on an unlogged table, which comes back empty after a crash
};

struct EntryKey {
    EntryKind kind;
    std::uint32_t wiring = 0;  // of a namespace's value: the number of the wiring it was made under
    std::string_view text;
    std::uint64_t hash;

    EntryKey(EntryKind kind, std::string_view text, std::uint32_t wiring = 0) noexcept;
};

// What an entry depends on: a slot and a generation of it, or (flag kByStamp) a stamp. See cache/judge.hpp.
class Dependency {
  public:
    Dependency() = default;
    Dependency(std::uint32_t slot, std::uint64_t gen) noexcept : first_(gen), second_(slot) {}
    explicit Dependency(const Stamp& stamp) noexcept
        : first_(static_cast<std::uint64_t>(stamp.nonces)),
          second_(static_cast<std::uint64_t>(stamp.weight)) {}

    std::uint64_t gen() const noexcept { return first_; }
    // What was read without a lock may be anything: the number is kept inside the array.
    std::uint32_t slot() const noexcept { return static_cast<std::uint32_t>(second_) & shared.slot_mask; }
    Stamp stamp() const noexcept {
        return {static_cast<std::int64_t>(second_), static_cast<std::int64_t>(first_)};
    }
    bool operator==(const Dependency&) const = default;

  private:
    std::uint64_t first_ = 0;
    std::uint64_t second_ = 0;
};

struct EntryShared {
    core::EvictionNodeShared node;  // `space`
    std::uint32_t next;             // in the bucket's chain; `space`
    Oid database;                   // this and all below: constant while the entry is linked ...
    std::uint64_t hash;
    std::int64_t created;  // monotonic microseconds
    std::int64_t expires;  // the same; INT64_MAX = never
    std::uint32_t value_length;
    std::uint16_t key_length;
    std::uint16_t pointer_length;
    EntryKind kind;
    std::uint8_t partition;
    std::uint8_t flags;
    std::uint8_t tag_count;
    std::uint32_t serial;
    union {
        std::uint32_t noted;      // ... but this, of a user's: the composition last noted for saving; `space`
        std::uint32_t last_milli;  // of a value: milliseconds after `created` it ends, however often it is hit
    };
    std::uint32_t wiring;
};
static_assert(std::is_standard_layout_v<EntryShared> && sizeof(EntryShared) == 80);
static_assert(sizeof(EntryShared) + kMaxTags * sizeof(Dependency) <= core::Arena::kHeadBytes);

// What a lookup learns of an entry before it copies: enough to judge it.
struct FoundEntry {
    EntryShared header;
    Dependency dependencies[kMaxTags];
    std::uint32_t unit = 0;
    std::uint32_t seq = 0;
    std::size_t piece = 0;  // how much of it lies in one piece
    const BucketShared* bucket = nullptr;

    std::size_t pointer_offset() const noexcept {
        return sizeof(EntryShared) + header.tag_count * sizeof(Dependency) + header.key_length;
    }
    std::size_t value_offset() const noexcept { return pointer_offset() + header.pointer_length; }
    bool has(EntryFlag flag) const noexcept { return (header.flags & flag) != 0; }
};

// A value to store. Everything is borrowed for the call.
struct NewEntry {
    std::uint8_t flags = 0;
    std::string_view pointer;  // a user's tenant; of a namespace's value its further dependencies
    std::string_view value;
    std::span<const Dependency> dependencies;
    std::uint8_t partition = 0;
    std::uint32_t claim = 0;            // of the partition, as its owner knows it
    std::int64_t lifetime = INT64_MAX;  // microseconds; memory_ttl is the ceiling
    std::int64_t deadline = INT64_MAX;  // on the clock of now(): what it was made from ends then
    // Stored only while this slot is at this generation: looked at under `space`, as whoever marks it and
    // then walks over the entries does.
    const Dependency* unless_marked = nullptr;
};

enum class StoreResult { kStored, kTooLarge, kNoRoom, kNewerThere };

namespace memory {

// Microseconds of a clock that nobody can set.
std::int64_t now() noexcept;

// Ask for the cache lines where find() begins and that read_value() copies. They change nothing but time.
void prefetch(const EntryKey& key) noexcept;
void prefetch_value(const FoundEntry& found) noexcept;

// A reader's steps. find() and read_…() may return what is being changed; only while still_there() says so is
// any of it true. find() gives up (false) after a few moves of the bucket. Whether it has expired is for the
// judge to say.
bool find(const EntryKey& key, FoundEntry& found) noexcept;
bool read_pointer(const FoundEntry& found, char* to) noexcept;
bool read_value(const FoundEntry& found, char* to) noexcept;
inline bool still_there(const FoundEntry& found) noexcept {
    std::atomic_thread_fence(std::memory_order_acquire);  // pairs with the release fence in BucketChange
    return found.bucket->seq.load(std::memory_order_relaxed) == found.seq;
}
void count_use(const FoundEntry& found) noexcept;

// How old an entry may become, whatever its namespace says: memory_ttl in microseconds.
std::int64_t longest_age() noexcept;

// The largest value that is stored: max_value_size, and no more than an eighth of the memory.
std::size_t largest_value() noexcept;

StoreResult store(const EntryKey& key, const NewEntry& entry) noexcept;

// Puts off the end of a value; to latest_end() at most: memory_ttl after it was stored, and its deadline.
std::int64_t latest_end(const EntryShared& header) noexcept;
void extend(const FoundEntry& found, std::int64_t expires) noexcept;

// Frees the values of a partition whose keys begin with `prefix`, or only counts them. All of a bucket under
// one hold of `space`: what is stored meanwhile is met, or was refused by NewEntry::unless_marked.
enum class WithPrefix { kCount, kDrop };
std::int64_t walk_prefix(unsigned partition, std::string_view prefix, WithPrefix what) noexcept;

// Remembers which composition of a user's prompt was noted for saving.
void set_noted(const FoundEntry& found, std::uint32_t composition) noexcept;

// The key of the user's entry with this hash, copied; empty if it is gone. By hash, since another entry may
// have taken its place.
std::string_view user_key_at(std::uint64_t hash, char* buffer) noexcept;

// How much of the arena is used, in percent.
int used_share() noexcept;

// The bytes of the arena that are `percent` of it.
std::uint64_t bytes_of_share(int percent) noexcept;

// Frees every entry of a database and returns how many there were.
std::int64_t drop_database(Oid database) noexcept;

// The same of a partition, whoever owns it.
std::int64_t drop_partition(unsigned partition) noexcept;

// One entry of this database as the views and flush() see it. `key` is copied.
struct ListedEntry {
    FoundEntry entry;
    std::uint32_t bytes;
    std::uint8_t frequency;
    std::uint32_t heat;  // by which it would stay, 0 = never hit
    char key[kMaxKeyLength];
};

// Visits the entries of this database, a bucket at a time. `cursor` begins at 0; false at the end.
struct ListCursor {
    std::uint32_t bucket = 0;
    std::uint32_t skip = 0;
};
bool next_entry(ListCursor& cursor, ListedEntry& listed) noexcept;

struct Usage {
    std::uint64_t bytes = 0;  // units taken by values
    std::uint64_t entries = 0;
    std::uint64_t fixed_bytes = 0;  // slots, buckets and the like
    std::uint64_t total_bytes = 0;
};
Usage usage() noexcept;

// What one partition holds. Entries that the extension remembers for itself are left out.
struct PartitionUsage {
    std::uint64_t bytes = 0;
    std::uint64_t entries = 0;
};
PartitionUsage usage_of(unsigned partition) noexcept;

#ifdef PROMPT_CACHE_TEST
// Walks all structures and compares every account. Test builds only.
bool consistent() noexcept;
// Entries in the longest chain of a bucket.
unsigned longest_chain() noexcept;
#endif

}  // namespace memory
}  // namespace prompt_cache
