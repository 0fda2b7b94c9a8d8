// How memory_size is shared out, for every size that the setting takes: 8 MB to 2 TB.
#include "core/layout.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace {

using prompt_cache::core::Arena;
using prompt_cache::core::lay_out;
using prompt_cache::core::Layout;
using prompt_cache::core::LayoutWish;
using prompt_cache::core::WideSlot;

constexpr std::uint64_t kMB = std::uint64_t{1} << 20;
constexpr std::uint64_t kMostBytes = std::uint64_t{INT32_MAX} * 1024;

LayoutWish wish(std::uint64_t bytes, std::uint64_t slots, std::uint64_t ids = 140) {
    return {.bytes = bytes,
            .slots = slots,
            .wide_ids = ids,
            .partitions = 200,
            .control_bytes = 2048,
            .partition_bytes = 24000,
            .bucket_bytes = 8,
            .fixed_bytes = {20000, 100000, 140000, 170000}};
}

std::vector<std::uint64_t> sizes() {
    std::vector<std::uint64_t> all{kMostBytes};
    for (std::uint64_t size = 8 * kMB; size <= kMostBytes; size += size / 7)
        for (const std::uint64_t near : {size - size % kMB, size}) all.push_back(near);
    for (std::uint64_t power = 8 * kMB; power <= kMostBytes; power *= 2)
        for (std::int64_t off = -3; off <= 3; off++)
            if (power + static_cast<std::uint64_t>(off) * kMB >= 8 * kMB)
                all.push_back(power + static_cast<std::uint64_t>(off) * kMB);
    return all;
}

// What the code holds in 32 bits, and loops over.
TEST(Layout, NumbersFitInto31Bits) {
    for (const std::uint64_t bytes : sizes())
        for (const std::uint64_t slots : {1024, 65536, 16 * 1024 * 1024}) {
            const Layout layout = lay_out(wish(bytes, slots));
            for (const std::uint64_t number : {layout.slots, layout.buckets, layout.ghosts, layout.units})
                ASSERT_LT(number, std::uint64_t{1} << 31) << bytes;
            for (const std::uint64_t number : {layout.slots, layout.buckets}) ASSERT_TRUE(std::has_single_bit(number));
        }
}

TEST(Layout, PartsFollowEachOtherAndFit) {
    for (const std::uint64_t bytes : sizes())
        for (const std::uint64_t slots : {1024, 65536, 16 * 1024 * 1024}) {
            const LayoutWish wanted = wish(bytes, slots);
            const Layout layout = lay_out(wanted);
            std::uint64_t at = wanted.control_bytes;
            const auto follows = [&](std::uint64_t offset, std::uint64_t size) {
                ASSERT_EQ(offset % 64, 0u);
                ASSERT_GE(offset, at) << bytes;
                at = offset + size;
            };
            follows(layout.partitions_offset, wanted.partitions * wanted.partition_bytes);
            follows(layout.slots_offset, layout.slots * 64);
            follows(layout.buckets_offset, layout.buckets * 8);
            follows(layout.ghosts_offset, layout.ghosts * 8);
            for (std::size_t i = 0; i < wanted.fixed_bytes.size(); i++)
                follows(layout.fixed_offset[i], wanted.fixed_bytes[i]);
            follows(layout.uses_offset, layout.units);
            follows(layout.arena_offset, layout.units * 64);
            ASSERT_LE(at, layout.bytes);
            ASSERT_LE(layout.bytes, bytes);
            ASSERT_LE(layout.slots * 64, std::max<std::uint64_t>(bytes / 4, 1024 * 64));
        }
}

// Wide slots come in pairs, there is one pair at least, and they leave most lines to the others.
TEST(Layout, WideSlots) {
    for (const std::uint64_t slots : {1024, 4096, 65536, 16 * 1024 * 1024})
        for (const std::uint64_t ids : {20, 140, 1100, 262143 + 262143}) {
            const Layout layout = lay_out(wish(std::uint64_t{1} << 34, slots, ids));
            ASSERT_GE(layout.wide_slots, 2u);
            ASSERT_EQ(layout.wide_slots % 2, 0u);
            ASSERT_EQ(layout.wide_lines, WideSlot::lines(layout.wide_ids));
            ASSERT_LE(layout.wide_slots * layout.wide_lines, slots / 8);
            ASSERT_LE(layout.wide_ids, ids);
            ASSERT_GE(layout.wide_ids, std::min<std::uint64_t>(ids, slots / 8));
        }
    const Layout usual = lay_out(wish(64 * kMB, 65536));
    EXPECT_EQ(usual.wide_ids, 140u);
    EXPECT_GE(usual.wide_slots, 32u);
    EXPECT_LE(usual.wide_slots * usual.wide_lines, 65536u / 64);
}

// The parts grow with the whole, up to what the arena can use; no memory is taken that nothing uses.
TEST(Layout, TheArenaGetsTheRest) {
    for (const std::uint64_t bytes : sizes()) {
        const Layout layout = lay_out(wish(bytes, 65536));
        if (layout.units < Arena::kMaxUnits) {
            ASSERT_GT(layout.bytes + 256, bytes);
        } else {
            ASSERT_LT(layout.bytes, std::uint64_t{Arena::kMaxUnits} * 80);
        }
        ASSERT_GE(layout.buckets * 10, layout.units * 64 / 256);
        ASSERT_GE(layout.ghosts * 2, layout.units * 64 / 256);
    }
}

}  // namespace
