// How memory_size is shared out: numbers and offsets of the parts of the one block of shared memory.
//
//   control | partitions | slots | buckets | ghosts | fixed parts | uses | arena
//
// Slots take a quarter at most; their first lines, a sixty-fourth or as many as sixteen need, are wide ones
// (wide_slot.hpp), two a database. Buckets and ghosts go with the number of entries that fit, taking 256 bytes as a
// small one. The arena gets the rest, as far as it can use it: a memory_size beyond that is not taken.
//
// Indices are 32 bits wide. Every number here stays below 2^31, whatever the settings are, so that a loop over
// `index <= mask` ends.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "arena.hpp"
#include "eviction.hpp"
#include "slot.hpp"
#include "wide_slot.hpp"

namespace prompt_cache::core {

inline constexpr std::size_t kFixedParts = 4;

struct LayoutWish {
    std::uint64_t bytes;  // memory_size
    std::uint64_t slots;
    std::uint64_t wide_ids;  // how many transactions may run at once
    std::uint64_t partitions;
    std::uint64_t control_bytes;
    std::uint64_t partition_bytes;
    std::uint64_t bucket_bytes;
    std::array<std::uint64_t, kFixedParts> fixed_bytes;
};

struct Layout {
    std::uint64_t partitions, slots, buckets, ghosts, units;  // how many; slots and buckets are powers of two
    std::uint64_t wide_slots, wide_lines, wide_ids;  // the lines of each, and the ids it has room for
    std::uint64_t partitions_offset, slots_offset, buckets_offset, ghosts_offset;
    std::array<std::uint64_t, kFixedParts> fixed_offset;
    std::uint64_t uses_offset, arena_offset;
    std::uint64_t bytes;  // of it all
};

constexpr std::uint64_t round_to_line(std::uint64_t offset) noexcept {
    return (offset + 63) / 64 * 64;
}

constexpr Layout lay_out(const LayoutWish& wish) noexcept {
    constexpr std::uint64_t kSmallEntry = 256;
    constexpr std::uint64_t kMostEntries = std::uint64_t{Arena::kMaxUnits} * Arena::kUnitBytes / kSmallEntry;
    Layout layout{};
    layout.partitions = wish.partitions;
    layout.slots = std::bit_ceil(wish.slots);
    while (layout.slots > 1024 && layout.slots * sizeof(SlotShared) > wish.bytes / 4) layout.slots /= 2;

    // Two take an eighth at most, so that there is a pair at all.
    layout.wide_ids = wish.wide_ids;
    while (WideSlot::lines(layout.wide_ids) > layout.slots / 16) layout.wide_ids /= 2;
    layout.wide_lines = WideSlot::lines(layout.wide_ids);
    const std::uint64_t wide = std::max(layout.slots / 64, std::min(layout.slots / 8, 16 * layout.wide_lines));
    layout.wide_slots = wide / layout.wide_lines / 2 * 2;

    std::uint64_t at = 0;
    const auto take = [&at](std::uint64_t bytes) {
        const std::uint64_t offset = at;
        at = round_to_line(at + bytes);
        return offset;
    };
    take(wish.control_bytes);
    layout.partitions_offset = take(wish.partitions * wish.partition_bytes);
    layout.slots_offset = take(layout.slots * sizeof(SlotShared));

    const std::uint64_t small_entries = std::min((wish.bytes - at) / kSmallEntry, kMostEntries);
    layout.buckets = std::bit_ceil(small_entries) / 2;
    layout.ghosts = small_entries / 8 * 8;
    layout.buckets_offset = take(layout.buckets * wish.bucket_bytes);
    layout.ghosts_offset = take(layout.ghosts * sizeof(EvictionGhostShared));
    for (std::size_t i = 0; i < kFixedParts; i++) layout.fixed_offset[i] = take(wish.fixed_bytes[i]);

    // A unit of the arena needs its own bytes and one byte that counts its use.
    layout.units = std::min<std::uint64_t>((wish.bytes - at - 64) / (Arena::kUnitBytes + 1), Arena::kMaxUnits);
    layout.uses_offset = take(layout.units);
    layout.arena_offset = take(layout.units * Arena::kUnitBytes);
    layout.bytes = at;
    return layout;
}

}  // namespace prompt_cache::core
