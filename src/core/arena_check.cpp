// The arena's self-check: every block, every list and every account, each against the others. It needs no
// memory of its own and is linear in the number of blocks, so a server can afford it in test builds and in
// health checks, not on a hot path. Writer lock. What it cannot see: whether a value's chain is the right
// one; it only counts that as many blocks are linked to as there are blocks that are not the first.
#include "core/arena.hpp"

namespace prompt_cache::core {

namespace {
constexpr std::memory_order kRelaxed = std::memory_order_relaxed;
}

bool Arena::check() const noexcept {
    if (capacity_units() == 0) return used_units() == 0 && state_->level_map == 0;
    return check_blocks() && check_lists();
}

// The tiling from guard to guard, and the accounts.
bool Arena::check_blocks() const noexcept {
    std::uint32_t used_units = 0;
    std::uint32_t used_blocks = 0;
    std::uint32_t free_blocks = 0;
    std::uint32_t links = 0;
    bool prev_free = false;
    std::uint32_t block = 1;
    while (block != end()) {
        const std::uint32_t word = header(block).size_flags.load(kRelaxed);
        const std::uint32_t units = word >> kSizeShift;
        const std::uint32_t next = header(block).next.load(kRelaxed);
        if (units < kMinBlockUnits || units > end() - block) return false;
        if (((word & kPrevFree) != 0) != prev_free) return false;
        if ((word & kUsed) != 0) {
            if (next != 0 && plausible_units(next) == 0) return false;
            links += next != 0;
            used_units += units;
            used_blocks += 1;
            prev_free = false;
        } else {
            if (prev_free || footer(block, units).load(kRelaxed) != units) return false;
            free_blocks += 1;
            prev_free = true;
        }
        block += units;
    }
    const std::uint32_t guard = 1u << kSizeShift | kUsed;
    return header(0).size_flags.load(kRelaxed) == guard &&
           header(end()).size_flags.load(kRelaxed) == (prev_free ? guard | kPrevFree : guard) &&
           used_units == this->used_units() && used_blocks == state_->used_blocks.load(kRelaxed) &&
           free_blocks == state_->free_blocks.load(kRelaxed) &&
           used_blocks == state_->allocations.load(kRelaxed) + links;
}

// The lists: what they hold is free, of their class and linked both ways, and all of it together is
// exactly the free blocks and the free units.
bool Arena::check_lists() const noexcept {
    const std::uint32_t all_blocks = state_->free_blocks.load(kRelaxed);
    std::uint32_t blocks = 0;
    std::uint64_t units_sum = 0;
    for (std::uint32_t level = 0; level < ArenaShared::kLevels; ++level) {
        const std::uint32_t subs = state_->class_map[level];
        if ((subs != 0) != ((state_->level_map >> level & 1) != 0)) return false;
        for (std::uint32_t sub = 0; sub < ArenaShared::kSubClasses; ++sub) {
            std::uint32_t back = 0;
            std::uint32_t block = state_->list[list_index({level, sub})];
            if ((block != 0) != ((subs >> sub & 1) != 0)) return false;
            while (block != 0) {
                if (payload(block) == nullptr || ++blocks > all_blocks) return false;
                const std::uint32_t word = header(block).size_flags.load(kRelaxed);
                const SizeClass c = class_of(word >> kSizeShift);
                if ((word & kUsed) != 0 || c.level != level || c.sub != sub) return false;
                if (free_block(block).back.load(kRelaxed) != back) return false;
                units_sum += word >> kSizeShift;
                back = block;
                block = free_block(block).forward.load(kRelaxed);
            }
        }
    }
    return blocks == all_blocks && units_sum == free_units();
}

}  // namespace prompt_cache::core
