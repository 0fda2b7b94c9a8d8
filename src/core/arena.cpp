// How the arena keeps its blocks; what it is for and who may call it stands in the header.
//
// A block, in units of 64 bytes:
//
//     used    | size_flags, next | payload ....................................... |
//     free    | size_flags, -    | list links, unused ..................... units  |
//
// The length of a free block is repeated in its last four bytes, so that the block behind it finds its
// start when the two become one (kPrevFree says that those bytes are a length and not somebody's value).
// The first and the last unit are guards, used for ever: neither end needs a special case.
//
// A freed block's old header is set to 0 when it disappears inside a neighbour. A second release() of the
// same index then does nothing, and a reader that still holds the index sees no block there.
#include "core/arena.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "core/shared_copy.hpp"

namespace prompt_cache::core {

namespace {

constexpr std::memory_order kRelaxed = std::memory_order_relaxed;

// How many blocks of the wanted size's own class are tried before a larger class would have to be broken
// into pieces. Larger classes always fit; in its own class a block may be up to 1/16 too short.
constexpr std::uint32_t kTries = 8;

void add(std::atomic<std::uint32_t>& account, std::uint32_t n) noexcept {
    account.store(account.load(kRelaxed) + n, kRelaxed);
}

void subtract(std::atomic<std::uint32_t>& account, std::uint32_t n) noexcept {
    account.store(account.load(kRelaxed) - n, kRelaxed);
}

}  // namespace

Arena::Arena(ArenaShared* state, void* base, std::uint32_t units) noexcept
    : state_(state), base_(static_cast<std::byte*>(base)), units_(std::min(units, kMaxUnits)) {}

void Arena::init() noexcept {
    state_->used_units.store(0, kRelaxed);
    state_->used_blocks.store(0, kRelaxed);
    state_->free_blocks.store(0, kRelaxed);
    state_->allocations.store(0, kRelaxed);
    state_->level_map = 0;
    state_->class_map.fill(0);
    state_->list.fill(0);
    if (capacity_units() == 0) return;

    for (const std::uint32_t guard : {0u, end()}) {
        header(guard).size_flags.store(1u << kSizeShift | kUsed, kRelaxed);
        header(guard).next.store(0, kRelaxed);
    }
    link_free(1, capacity_units());
}

std::uint32_t Arena::capacity_units() const noexcept {
    return units_ < kGuardUnits + kMinBlockUnits ? 0 : units_ - kGuardUnits;
}

std::size_t Arena::free_payload_bytes() const noexcept {
    return std::size_t{free_units()} * kUnitBytes - state_->free_blocks.load(kRelaxed) * kBlockHeaderBytes;
}

bool Arena::fits(std::size_t payload_bytes) const noexcept {
    return state_->free_blocks.load(kRelaxed) != 0 && payload_bytes <= free_payload_bytes();
}

std::uint32_t Arena::units_for(std::size_t payload_bytes) noexcept {
    if (payload_bytes > std::size_t{kMaxUnits} * kUnitBytes) return std::numeric_limits<std::uint32_t>::max();
    const std::size_t units = (payload_bytes + kBlockHeaderBytes + kUnitBytes - 1) / kUnitBytes;
    return std::max(static_cast<std::uint32_t>(units), kMinBlockUnits);
}

Arena::SizeClass Arena::class_of(std::uint32_t units) noexcept {
    constexpr std::uint32_t kBits = ArenaShared::kSubBits;
    if (units < ArenaShared::kSubClasses) return {0, units};
    const std::uint32_t log = static_cast<std::uint32_t>(std::bit_width(units)) - 1;
    return {log - kBits + 1, (units >> (log - kBits)) & (ArenaShared::kSubClasses - 1)};
}

std::uint32_t Arena::allocate(std::size_t payload_bytes) noexcept {
    if (!fits(payload_bytes)) return 0;

    std::uint32_t first = 0;
    std::uint32_t last = 0;
    std::size_t left = payload_bytes;
    do {
        const std::uint32_t wanted = units_for(left);
        std::uint32_t block = find_fit(wanted);
        if (block == 0) block = find_largest();
        const std::size_t got = claim(block, wanted) * kUnitBytes - kBlockHeaderBytes;
        if (first == 0)
            first = block;
        else
            header(last).next.store(block, kRelaxed);
        last = block;
        left -= std::min(left, got);
    } while (left > 0);
    add(state_->allocations, 1);
    return first;
}

std::uint32_t Arena::release(std::uint32_t first) noexcept {
    std::uint32_t freed = 0;
    for (std::uint32_t block = first; plausible_units(block) != 0;) {
        const std::uint32_t next = header(block).next.load(kRelaxed);
        freed += give_back(block);
        block = next;
    }
    if (freed != 0) subtract(state_->allocations, 1);
    return freed;
}

bool Arena::write(std::uint32_t first, std::size_t offset, const void* from, std::size_t n) const noexcept {
    const auto* source = static_cast<const std::byte*>(from);
    return for_each_piece(first, offset, n, [&source](std::byte* piece, std::size_t length) noexcept {
        copy_in(piece, source, length);
        source += length;
    });
}

bool Arena::read(std::uint32_t first, std::size_t offset, void* to, std::size_t n) const noexcept {
    auto* target = static_cast<std::byte*>(to);
    return for_each_piece(first, offset, n, [&target](std::byte* piece, std::size_t length) noexcept {
        copy_out(target, piece, length);
        target += length;
    });
}

void* Arena::payload(std::uint32_t first) const noexcept {
    if (first == 0 || first >= units_ || end() - first < kMinBlockUnits) return nullptr;
    return data(first);
}

std::size_t Arena::head_bytes(std::uint32_t first) const noexcept {
    const std::uint32_t units = plausible_units(first);
    return units == 0 ? 0 : units * kUnitBytes - kBlockHeaderBytes;
}

Arena::Footprint Arena::footprint(std::uint32_t first) const noexcept {
    Footprint sum;
    for (std::uint32_t block = first; sum.units < capacity_units();) {
        const std::uint32_t units = plausible_units(block);
        if (units == 0) break;
        sum.units += units;
        sum.blocks += 1;
        block = header(block).next.load(kRelaxed);
    }
    return sum;
}

BlockHeaderShared& Arena::header(std::uint32_t block) const noexcept {
    return *reinterpret_cast<BlockHeaderShared*>(base_ + block * kUnitBytes);
}

FreeBlockShared& Arena::free_block(std::uint32_t block) const noexcept {
    return *reinterpret_cast<FreeBlockShared*>(base_ + block * kUnitBytes);
}

std::atomic<std::uint32_t>& Arena::footer(std::uint32_t block, std::uint32_t units) const noexcept {
    return *reinterpret_cast<std::atomic<std::uint32_t>*>(base_ + (std::size_t{block} + units) * kUnitBytes -
                                                          sizeof(std::uint32_t));
}

std::byte* Arena::data(std::uint32_t block) const noexcept {
    return base_ + block * kUnitBytes + kBlockHeaderBytes;
}

std::uint32_t Arena::units_of(std::uint32_t block) const noexcept {
    return header(block).size_flags.load(kRelaxed) >> kSizeShift;
}

// The length of what may be a used block at any index, inside the arena for certain; 0 if it is none.
std::uint32_t Arena::plausible_units(std::uint32_t block) const noexcept {
    if (block == 0 || block >= units_) return 0;
    const std::uint32_t word = header(block).size_flags.load(kRelaxed);
    const std::uint32_t units = word >> kSizeShift;
    return (word & kUsed) != 0 && units >= kMinBlockUnits && units <= end() - block ? units : 0;
}

void Arena::set_prev_free(std::uint32_t block, bool is_free) const noexcept {
    std::atomic<std::uint32_t>& word = header(block).size_flags;
    const std::uint32_t rest = word.load(kRelaxed) & ~kPrevFree;
    word.store(is_free ? rest | kPrevFree : rest, kRelaxed);
}

void Arena::link_free(std::uint32_t block, std::uint32_t units) const noexcept {
    const SizeClass c = class_of(units);
    std::uint32_t& head = state_->list[list_index(c)];
    FreeBlockShared& node = free_block(block);
    node.header.size_flags.store(units << kSizeShift, kRelaxed);
    node.forward.store(head, kRelaxed);
    node.back.store(0, kRelaxed);
    footer(block, units).store(units, kRelaxed);
    if (head != 0) free_block(head).back.store(block, kRelaxed);
    head = block;
    state_->class_map[c.level] = static_cast<std::uint16_t>(state_->class_map[c.level] | 1u << c.sub);
    state_->level_map |= 1u << c.level;
    set_prev_free(block + units, true);
    add(state_->free_blocks, 1);
}

void Arena::unlink_free(std::uint32_t block, std::uint32_t units) const noexcept {
    const SizeClass c = class_of(units);
    const std::uint32_t forward = free_block(block).forward.load(kRelaxed);
    const std::uint32_t back = free_block(block).back.load(kRelaxed);
    if (forward != 0) free_block(forward).back.store(back, kRelaxed);
    if (back != 0)
        free_block(back).forward.store(forward, kRelaxed);
    else
        state_->list[list_index(c)] = forward;
    if (state_->list[list_index(c)] == 0) {
        state_->class_map[c.level] = static_cast<std::uint16_t>(state_->class_map[c.level] & ~(1u << c.sub));
        if (state_->class_map[c.level] == 0) state_->level_map &= ~(1u << c.level);
    }
    subtract(state_->free_blocks, 1);
}

// A free block of at least `units`, from the smallest class that has one; 0 if none was found.
std::uint32_t Arena::find_fit(std::uint32_t units) const noexcept {
    const SizeClass own = class_of(units);
    std::uint32_t candidate = state_->list[list_index(own)];
    for (std::uint32_t tries = 0; candidate != 0 && tries < kTries; ++tries) {
        if (units_of(candidate) >= units) return candidate;
        candidate = free_block(candidate).forward.load(kRelaxed);
    }
    std::uint32_t level = own.level;
    std::uint32_t subs = state_->class_map[level] & ~((2u << own.sub) - 1);
    if (subs == 0) {
        const std::uint32_t levels = state_->level_map & ~((2u << level) - 1);
        if (levels == 0) return 0;
        level = static_cast<std::uint32_t>(std::countr_zero(levels));
        subs = state_->class_map[level];
    }
    return state_->list[list_index({level, static_cast<std::uint32_t>(std::countr_zero(subs))})];
}

// A block of the largest class in use. The caller knows that there is a free block.
std::uint32_t Arena::find_largest() const noexcept {
    const std::uint32_t level = static_cast<std::uint32_t>(std::bit_width(state_->level_map)) - 1;
    const std::uint32_t sub =
        static_cast<std::uint32_t>(std::bit_width(std::uint32_t{state_->class_map[level]})) - 1;
    return state_->list[list_index({level, sub})];
}

// Makes a free block used, the part beyond `wanted` units free again if it can be a block; its new length.
std::uint32_t Arena::claim(std::uint32_t block, std::uint32_t wanted) const noexcept {
    std::uint32_t units = units_of(block);
    unlink_free(block, units);
    set_prev_free(block + units, false);
    if (units >= wanted + kMinBlockUnits) {
        link_free(block + wanted, units - wanted);
        units = wanted;
    }
    header(block).next.store(0, kRelaxed);
    header(block).size_flags.store(units << kSizeShift | kUsed, kRelaxed);
    add(state_->used_units, units);
    add(state_->used_blocks, 1);
    return units;
}

// Makes a used block free, one with the free blocks beside it; the units it had.
std::uint32_t Arena::give_back(std::uint32_t block) const noexcept {
    const std::uint32_t word = header(block).size_flags.load(kRelaxed);
    const std::uint32_t freed = word >> kSizeShift;
    std::uint32_t units = freed;
    header(block).size_flags.store(0, kRelaxed);

    const std::uint32_t right = block + units;
    if ((header(right).size_flags.load(kRelaxed) & kUsed) == 0) {
        const std::uint32_t more = units_of(right);
        unlink_free(right, more);
        units += more;
    }
    if ((word & kPrevFree) != 0) {
        const std::uint32_t more = footer(block - 1, 1).load(kRelaxed);
        block -= more;
        unlink_free(block, more);
        units += more;
    }
    link_free(block, units);
    subtract(state_->used_units, freed);
    subtract(state_->used_blocks, 1);
    return freed;
}

// Calls visit(bytes, length) for the pieces of a value from `offset` on. Every block is at least kHeadBytes
// long, so a chain that runs in a circle ends too: with the bytes that were asked for, which the first line
// bounds by the arena. The order matters for a value in one block, the common case: one check, one visit.
template <typename Visit>
bool Arena::for_each_piece(std::uint32_t first, std::size_t offset, std::size_t n,
                           Visit visit) const noexcept {
    const std::size_t limit = std::size_t{units_} * kUnitBytes;
    if (offset > limit || n > limit - offset) return false;
    for (std::uint32_t block = first;;) {
        const std::size_t length = head_bytes(block);
        if (length == 0) return false;
        if (offset < length) {
            const std::size_t piece = std::min(n, length - offset);
            visit(data(block) + offset, piece);
            n -= piece;
            offset = 0;
        } else {
            offset -= length;
        }
        if (n == 0 && offset == 0) return true;
        block = header(block).next.load(kRelaxed);
    }
}

}  // namespace prompt_cache::core
