// The value arena: one fixed block of shared memory, cut into units of 64 bytes and named by 32-bit unit
// indices (0 = none). It holds every cached value, from 0 bytes up to whatever is configured.
//
// A value lies in one block where a block fits, and otherwise in several blocks chained by `next`, largest
// free block first. So an allocation fails only when the free blocks together are too small, and never
// because they lie apart. The nearest rejected way is dsa: its segments beyond the in-place part live in
// /dev/shm, it raises ERROR when that is full, and a value must be contiguous. A slab allocator was
// rejected because memory given to one size class is lost to the others.
//
// Blocks tile the arena without gaps; no two free blocks are neighbours. Free blocks hang in lists by size
// (exact up to 31 units, then 16 classes for each power of two) with a bitmap over the lists, so finding
// and freeing a block takes constant time. No block is shorter than two units: every free block can then
// be the first of a value, whose entry header must lie in one piece (`kHeadBytes`). Costs: 8 bytes a block
// plus the rounding to units (at most one unit more, where the rest would be too short for a block).
//
// Locking. Everything that changes the arena runs under one lock of the caller ("writer lock"); nothing
// here locks. `read`, `payload` and `head_bytes` may run without it, at any time, with any index: they stay
// inside the arena, end, and return whatever is there. The caller validates a sequence number afterwards
// (a seqlock) and throws torn data away, so the copy itself is a plain memcpy. Formally that is a data
// race; builds with ThreadSanitizer therefore copy in relaxed atomic words, to keep real races visible.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace prompt_cache::core {

// What a lock-free reader may look at. Written under the writer lock.
struct BlockHeaderShared {
    std::atomic<std::uint32_t> size_flags;  // units << 2 | kPrevFree | kUsed
    std::atomic<std::uint32_t> next;        // used block: first unit of the value's next block, 0 = last
};
static_assert(sizeof(BlockHeaderShared) == 8 && std::is_standard_layout_v<BlockHeaderShared>);

// A free block begins like this; its last four bytes repeat its length. Writer lock; atomic all the same,
// because a late reader may still be copying here.
struct FreeBlockShared {
    BlockHeaderShared header;
    std::atomic<std::uint32_t> forward;  // 0 = last of its list
    std::atomic<std::uint32_t> back;     // 0 = first of its list
};
static_assert(sizeof(FreeBlockShared) == 16 && std::is_standard_layout_v<FreeBlockShared>);

struct ArenaShared {
    static constexpr std::uint32_t kSubBits = 4;
    static constexpr std::uint32_t kSubClasses = 1u << kSubBits;
    static constexpr std::uint32_t kLevels = 30 - kSubBits + 1;
    static constexpr std::uint32_t kClasses = kLevels * kSubClasses;

    // Accounts: changed under the writer lock, read by anybody (each exact, together only under the lock).
    std::atomic<std::uint32_t> used_units;
    std::atomic<std::uint32_t> used_blocks;
    std::atomic<std::uint32_t> free_blocks;
    std::atomic<std::uint32_t> allocations;

    // Free lists: writer lock.
    std::uint32_t level_map;                       // bit l: some list of level l is not empty
    std::array<std::uint16_t, kLevels> class_map;  // bit c: list c of this level is not empty
    std::array<std::uint32_t, kClasses> list;      // first free block of each size class, 0 = none
};
static_assert(std::is_standard_layout_v<ArenaShared> && sizeof(ArenaShared) == 1804);

// A view: two pointers and a length, made by each process for itself and passed by value.
class Arena {
  public:
    static constexpr std::size_t kUnitBytes = 64;
    static constexpr std::size_t kBlockHeaderBytes = sizeof(BlockHeaderShared);
    static constexpr std::uint32_t kMinBlockUnits = 2;
    static constexpr std::uint32_t kGuardUnits = 2;       // the first and the last unit of the arena
    static constexpr std::uint32_t kMaxUnits = 1u << 30;  // 64 GB; what is beyond stays unused
    static constexpr std::size_t kHeadBytes = kMinBlockUnits * kUnitBytes - kBlockHeaderBytes;

    struct Footprint {
        std::uint32_t units = 0;
        std::uint32_t blocks = 0;
    };

    // `base` is aligned to kUnitBytes. `units` comes from the settings, never from shared memory.
    Arena(ArenaShared* state, void* base, std::uint32_t units) noexcept;

    // Makes the whole arena free, whatever it held. Writer lock, or before anybody else can see it.
    void init() noexcept;

    // Writer lock. First unit of the value, or 0 if the free blocks cannot hold `payload_bytes` together.
    [[nodiscard]] std::uint32_t allocate(std::size_t payload_bytes) noexcept;

    // Writer lock. Frees all blocks of a value and returns their units. 0 for anything that is not in use.
    std::uint32_t release(std::uint32_t first) noexcept;

    // Writer lock, or whoever has just allocated it. Copies into a value; false, with nothing promised, if it would go beyond its end.
    bool write(std::uint32_t first, std::size_t offset, const void* from, std::size_t n) const noexcept;

    // Any time. Copies out of a value; false if what it meets cannot be a value of that length.
    bool read(std::uint32_t first, std::size_t offset, void* to, std::size_t n) const noexcept;

    // Any time. The first kHeadBytes of a value in place; nullptr if `first` lies outside the arena.
    void* payload(std::uint32_t first) const noexcept;

    // Any time. How many bytes from payload() on lie in one piece; 0 if `first` cannot be a used block.
    std::size_t head_bytes(std::uint32_t first) const noexcept;

    // Writer lock. The units and blocks of a value.
    Footprint footprint(std::uint32_t first) const noexcept;

    // Units that a value takes in one block (one more where a rest of one unit is added to it).
    static std::uint32_t units_for(std::size_t payload_bytes) noexcept;

    std::uint32_t used_units() const noexcept { return state_->used_units.load(std::memory_order_relaxed); }
    std::uint32_t free_units() const noexcept { return capacity_units() - used_units(); }
    std::uint32_t capacity_units() const noexcept;

    // Writer lock. Would allocate() accept a value of this size now? The second: the largest that it would.
    bool fits(std::size_t payload_bytes) const noexcept;
    std::size_t free_payload_bytes() const noexcept;

    // Writer lock. Walks every block and every list and compares them with each other and the accounts.
    bool check() const noexcept;

  private:
    static constexpr std::uint32_t kUsed = 1;
    static constexpr std::uint32_t kPrevFree = 2;
    static constexpr std::uint32_t kSizeShift = 2;

    struct SizeClass {
        std::uint32_t level;
        std::uint32_t sub;
    };

    static SizeClass class_of(std::uint32_t units) noexcept;
    static std::uint32_t list_index(SizeClass c) noexcept {
        return c.level * ArenaShared::kSubClasses + c.sub;
    }

    BlockHeaderShared& header(std::uint32_t block) const noexcept;
    FreeBlockShared& free_block(std::uint32_t block) const noexcept;
    std::atomic<std::uint32_t>& footer(std::uint32_t block, std::uint32_t units) const noexcept;
    std::byte* data(std::uint32_t block) const noexcept;
    std::uint32_t units_of(std::uint32_t block) const noexcept;
    std::uint32_t plausible_units(std::uint32_t block) const noexcept;
    std::uint32_t end() const noexcept { return units_ - 1; }

    void set_prev_free(std::uint32_t block, bool is_free) const noexcept;
    void link_free(std::uint32_t block, std::uint32_t units) const noexcept;
    void unlink_free(std::uint32_t block, std::uint32_t units) const noexcept;
    std::uint32_t find_fit(std::uint32_t units) const noexcept;
    std::uint32_t find_largest() const noexcept;
    std::uint32_t claim(std::uint32_t block, std::uint32_t wanted) const noexcept;
    std::uint32_t give_back(std::uint32_t block) const noexcept;
    bool check_blocks() const noexcept;
    bool check_lists() const noexcept;

    template <typename Visit>
    bool for_each_piece(std::uint32_t first, std::size_t offset, std::size_t n, Visit visit) const noexcept;

    ArenaShared* state_;
    std::byte* base_;
    std::uint32_t units_;
};

}  // namespace prompt_cache::core
