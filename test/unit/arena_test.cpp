// The arena in one thread: accounts, contents, fragmentation, damaged headers.
#include "core/arena.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "arena_model.hpp"

namespace {

using prompt_cache::core::Arena;
using prompt_cache::core::BlockHeaderShared;
using prompt_cache::test::ArenaMemory;
using prompt_cache::test::ArenaModel;

constexpr std::size_t kMegabyte = 1 << 20;

// Sizes as a cache meets them: mostly a few kilobytes, some empty, some large.
std::size_t draw_size(std::mt19937_64& random, std::size_t largest) {
    const unsigned bits = static_cast<unsigned>(random() % 21);
    const std::size_t size = random() % (std::size_t{1} << bits);
    return size % (largest + 1);
}

void set_header(ArenaMemory& memory, std::uint32_t unit, std::uint32_t size_flags, std::uint32_t next) {
    auto* header = reinterpret_cast<BlockHeaderShared*>(memory.base() + unit * Arena::kUnitBytes);
    header->size_flags.store(size_flags);
    header->next.store(next);
}

TEST(Arena, EmptyArenaIsOneFreeBlock) {
    ArenaMemory memory(1000);
    Arena arena = memory.arena();
    EXPECT_TRUE(arena.check());
    EXPECT_EQ(arena.used_units(), 0u);
    EXPECT_EQ(arena.free_units(), 998u);
    EXPECT_EQ(arena.free_payload_bytes(), 998u * 64 - 8);
}

TEST(Arena, ArenaTooSmallForABlockRefusesEverything) {
    for (std::uint32_t units = 0; units < 4; ++units) {
        ArenaMemory memory(units);
        Arena arena = memory.arena();
        EXPECT_EQ(arena.allocate(0), 0u);
        EXPECT_EQ(arena.free_units(), 0u);
        EXPECT_EQ(arena.payload(1), nullptr);
        EXPECT_EQ(arena.head_bytes(1), 0u);
        EXPECT_TRUE(arena.check());
    }
    ArenaModel smallest(4);
    EXPECT_TRUE(smallest.store(Arena::kHeadBytes));
    EXPECT_TRUE(smallest.store(0));
    EXPECT_EQ(smallest.values.size(), 1u);
    EXPECT_TRUE(smallest.remove_all());
}

TEST(Arena, UnitsForIsExactAtTheEdges) {
    EXPECT_EQ(Arena::units_for(0), 2u);
    EXPECT_EQ(Arena::units_for(120), 2u);
    EXPECT_EQ(Arena::units_for(121), 3u);
    EXPECT_EQ(Arena::units_for(kMegabyte), 16385u);
    EXPECT_GT(Arena::units_for(SIZE_MAX), Arena::kMaxUnits);
    ArenaMemory memory(100);
    EXPECT_EQ(memory.arena().allocate(SIZE_MAX), 0u);
    EXPECT_EQ(memory.arena().allocate(std::size_t{1} << 40), 0u);
}

TEST(Arena, FillsToTheLastByte) {
    ArenaModel model(1000);
    EXPECT_TRUE(model.store(model.arena.free_payload_bytes() + 1));
    EXPECT_TRUE(model.values.empty());
    EXPECT_TRUE(model.store(model.arena.free_payload_bytes()));
    EXPECT_EQ(model.values.size(), 1u);
    EXPECT_EQ(model.arena.free_units(), 0u);
    EXPECT_TRUE(model.store(0));
    EXPECT_EQ(model.values.size(), 1u);
    EXPECT_TRUE(model.remove_all());
}

TEST(Arena, PayloadIsAlignedAndInOnePiece) {
    ArenaMemory memory(1000);
    Arena arena = memory.arena();
    for (std::size_t bytes : {0, 1, 112, 120, 121, 5000}) {
        const std::uint32_t first = arena.allocate(bytes);
        ASSERT_NE(first, 0u);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.payload(first)) % 8, 0u);
        EXPECT_GE(arena.head_bytes(first), std::max(bytes, Arena::kHeadBytes));
        const std::string text(bytes, 'x');
        ASSERT_TRUE(arena.write(first, 0, text.data(), bytes));
        EXPECT_EQ(std::memcmp(arena.payload(first), text.data(), bytes), 0);
    }
    EXPECT_TRUE(arena.check());
}

// A block is taken whole where only one unit would be left over, and never broken for more than it must.
TEST(Arena, RestOfOneUnitStaysWithTheBlock) {
    ArenaMemory memory(2 + 5);
    Arena arena = memory.arena();
    const std::uint32_t first = arena.allocate(4 * 64 - 8);
    EXPECT_EQ(arena.used_units(), 5u);
    EXPECT_EQ(arena.release(first), 5u);
    EXPECT_NE(arena.allocate(3 * 64 - 8), 0u);
    EXPECT_EQ(arena.used_units(), 3u);
    EXPECT_NE(arena.allocate(120), 0u);
    EXPECT_EQ(arena.free_units(), 0u);
    EXPECT_TRUE(arena.check());
}

TEST(Arena, GoodFitLeavesLargeBlocksAlone) {
    ArenaMemory memory(10002);
    Arena arena = memory.arena();
    const std::uint32_t small = arena.allocate(50 * 64 - 8);
    const std::uint32_t wall = arena.allocate(0);
    arena.release(small);
    EXPECT_EQ(arena.allocate(50 * 64 - 8), small);
    const std::uint32_t other = arena.allocate(50 * 64 - 8);
    EXPECT_GT(other, wall);
    EXPECT_EQ(arena.footprint(other).blocks, 1u);
}

// Sizes 64 to 67 share a list: a block that is long enough is found behind one that is not.
TEST(Arena, FindsTheLongerBlockOfTheSameClass) {
    ArenaMemory memory(1000);
    Arena arena = memory.arena();
    const std::uint32_t longer = arena.allocate(67 * 64 - 8);
    ASSERT_NE(arena.allocate(0), 0u);
    const std::uint32_t shorter = arena.allocate(64 * 64 - 8);
    ASSERT_NE(arena.allocate(arena.free_payload_bytes()), 0u);
    arena.release(longer);
    arena.release(shorter);
    EXPECT_EQ(arena.allocate(66 * 64 - 8), longer);
    EXPECT_EQ(arena.footprint(longer).blocks, 1u);
}

TEST(Arena, CoalescesOnBothSides) {
    // Three neighbours freed in every order give back one block each time.
    const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (const auto& order : orders) {
        ArenaMemory memory(1000);
        Arena arena = memory.arena();
        std::uint32_t block[3];
        for (std::uint32_t& b : block) b = arena.allocate(1000);
        ASSERT_NE(arena.allocate(arena.free_payload_bytes()), 0u);
        for (int i : order) {
            EXPECT_EQ(arena.release(block[i]), Arena::units_for(1000));
            EXPECT_TRUE(arena.check());
        }
        EXPECT_EQ(memory.state.free_blocks.load(), 1u);
    }
}

TEST(Arena, SecondReleaseDoesNothing) {
    ArenaMemory memory(1000);
    Arena arena = memory.arena();
    std::uint32_t block[3];
    for (std::uint32_t& b : block) b = arena.allocate(1000);
    for (int i : {0, 2, 1}) {
        EXPECT_NE(arena.release(block[i]), 0u);
        for (std::uint32_t b : {block[i], 0u, 999u, 1000u, UINT32_MAX}) EXPECT_EQ(arena.release(b), 0u);
        EXPECT_TRUE(arena.check());
    }
    EXPECT_EQ(arena.used_units(), 0u);
}

// The worst case: only the smallest blocks are free, and none beside another.
TEST(Arena, MegabyteFitsInACheckerboard) {
    const auto needed = static_cast<std::uint32_t>((kMegabyte + Arena::kHeadBytes - 1) / Arena::kHeadBytes);
    ArenaModel model(2 + 4 * needed);
    while (model.arena.free_units() != 0) ASSERT_TRUE(model.store(Arena::kHeadBytes));
    ASSERT_EQ(model.values.size(), 2 * needed);
    std::sort(model.values.begin(), model.values.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<ArenaModel::Value> kept;
    for (std::size_t i = 0; i < model.values.size(); ++i)
        if (i % 2 == 0) kept.push_back(model.values[i]);
    for (std::size_t i = model.values.size(); i-- > 0;)
        if (model.values[i].first % 4 == 3) {
            ASSERT_TRUE(model.remove(i));
        }
    ASSERT_EQ(model.values.size(), kept.size());
    ASSERT_EQ(model.memory.state.free_blocks.load(), needed);
    ASSERT_TRUE(model.arena.check());

    EXPECT_TRUE(model.store(model.arena.free_payload_bytes() + 1));
    EXPECT_EQ(model.values.size(), kept.size());
    EXPECT_TRUE(model.store(kMegabyte));
    ASSERT_EQ(model.values.size(), kept.size() + 1);
    EXPECT_EQ(model.arena.footprint(model.values.back().first).blocks, needed);
    EXPECT_EQ(model.arena.free_units(), 0u);
    EXPECT_TRUE(model.piece_intact(model.values.size() - 1, 777777, 100000));
    EXPECT_TRUE(model.all_intact());
    EXPECT_TRUE(model.remove_all());
}

TEST(Arena, ScatterTakesTheLargestBlocksFirst) {
    ArenaMemory memory(2 + 2 + 3 + 100 + 2 + 40);
    Arena arena = memory.arena();
    const std::uint32_t a = arena.allocate(120);
    const std::uint32_t wall = arena.allocate(3 * 64 - 8);
    const std::uint32_t b = arena.allocate(100 * 64 - 8);
    const std::uint32_t wall2 = arena.allocate(120);
    const std::uint32_t c = arena.allocate(40 * 64 - 8);
    ASSERT_EQ(arena.free_units(), 0u);
    ASSERT_NE(wall, 0u);
    ASSERT_NE(wall2, 0u);
    for (std::uint32_t block : {a, b, c}) arena.release(block);
    const std::uint32_t first = arena.allocate(139 * 64);
    EXPECT_EQ(first, b);
    EXPECT_EQ(arena.footprint(first).blocks, 2u);
    EXPECT_EQ(arena.free_units(), 2u);
}

TEST(Arena, RandomAgainstModel) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        std::mt19937_64 random(seed);
        ArenaModel model(seed == 1 ? 300 : 60000);
        const std::size_t largest = seed == 1 ? 9000 : kMegabyte;
        for (int step = 0; step < 6000; ++step) {
            const auto pick = [&] { return random() % model.values.size(); };
            const bool full = model.arena.free_units() < model.arena.capacity_units() / 50;
            if (model.values.empty() || (!full && random() % 10 < 7))
                ASSERT_TRUE(model.store(draw_size(random, largest))) << "seed " << seed << " step " << step;
            else if (random() % 4 == 0)
                ASSERT_TRUE(model.piece_intact(pick(), random(), random())) << "seed " << seed;
            else
                ASSERT_TRUE(model.remove(pick())) << "seed " << seed << " step " << step;
            if (step % 500 == 0) {
                ASSERT_TRUE(model.all_intact()) << "seed " << seed << " step " << step;
            }
        }
        ASSERT_TRUE(model.all_intact());
        ASSERT_TRUE(model.remove_all());
    }
}

// A cache at its bound: room is made value by value until the next one fits. Nothing may be lost over time.
TEST(Arena, FullArenaStaysUsable) {
    std::mt19937_64 random(7);
    ArenaModel model(20000);
    for (int step = 0; step < 20000; ++step) {
        const std::size_t bytes = draw_size(random, 200000);
        while (!model.arena.fits(bytes)) ASSERT_TRUE(model.remove(random() % model.values.size()));
        const std::size_t before = model.values.size();
        ASSERT_TRUE(model.store(bytes));
        ASSERT_EQ(model.values.size(), before + 1);
    }
    EXPECT_TRUE(model.all_intact());
    EXPECT_GT(model.blocks_made, 20000u);  // the test is void if nothing was ever scattered
    EXPECT_TRUE(model.remove_all());
}

TEST(Arena, CheckSeesDamage) {
    const auto damaged = [](auto damage) {
        ArenaMemory memory(1000);
        Arena arena = memory.arena();
        const std::uint32_t a = arena.allocate(1000);
        const std::uint32_t b = arena.allocate(1000);
        const std::uint32_t c = arena.allocate(1000);
        arena.release(b);
        EXPECT_TRUE(arena.check());
        damage(memory, a, b, c);
        return !arena.check();
    };
    const std::uint32_t used16 = 16 << 2 | 1;
    EXPECT_TRUE(damaged([&](auto& m, auto a, auto, auto) { set_header(m, a, 15 << 2 | 1, 0); }));
    EXPECT_TRUE(damaged([&](auto& m, auto a, auto, auto) { set_header(m, a, used16, 1 << 20); }));
    EXPECT_TRUE(damaged([&](auto& m, auto a, auto, auto c) { set_header(m, a, used16, c); }));
    EXPECT_TRUE(damaged([&](auto& m, auto, auto b, auto) { set_header(m, b, used16, 0); }));
    EXPECT_TRUE(damaged([&](auto& m, auto, auto, auto c) { set_header(m, c, used16, 0); }));
    EXPECT_TRUE(damaged([&](auto& m, auto, auto, auto) { m.state.used_units.fetch_add(1); }));
    EXPECT_TRUE(damaged([&](auto& m, auto, auto, auto) { m.state.free_blocks.fetch_add(1); }));
    EXPECT_TRUE(damaged([&](auto& m, auto, auto, auto) { m.state.allocations.fetch_sub(1); }));
    EXPECT_TRUE(damaged([&](auto& m, auto, auto, auto) { m.state.level_map = 0; }));
    EXPECT_TRUE(damaged([&](auto& m, auto, auto, auto) { m.state.list[16] = 0; }));
    EXPECT_TRUE(damaged([&](auto& m, auto, auto b, auto) { m.state.list[17] = b; }));
}

// What a late reader may meet: any index, any header, chains that run in circles or out of the arena.
TEST(Arena, ReaderStaysInsideWhateverTheHeadersSay) {
    std::mt19937_64 random(11);
    const std::uint32_t units = 500;
    ArenaMemory memory(units);
    Arena arena = memory.arena();
    std::vector<unsigned char> buffer(units * 64 + 64);
    int successes = 0;
    for (int round = 0; round < 20000; ++round) {
        if (round % 100 == 0)
            for (std::size_t i = 0; i < std::size_t{units} * 64; i += 4) {
                const auto word = static_cast<std::uint32_t>(random() >> (random() % 32));
                std::memcpy(memory.base() + i, &word, 4);
            }
        const auto unit = static_cast<std::uint32_t>(random() % units);
        const auto length = static_cast<std::uint32_t>(random() % (units - unit + 1));
        set_header(memory, unit, length << 2 | 1, static_cast<std::uint32_t>(random() % units));
        const auto first = static_cast<std::uint32_t>(random() % 4 == 0 ? random() : random() % units);
        const std::size_t n = random() % 4 == 0 ? random() % buffer.size() : random() % 500;
        successes += arena.read(first, random() % 3 == 0 ? random() % 40000 : 0, buffer.data(), n);
        if (void* head = arena.payload(first)) std::memcpy(buffer.data(), head, Arena::kHeadBytes);
        const std::size_t bytes = arena.head_bytes(first);
        if (bytes != 0) std::memcpy(buffer.data(), arena.payload(first), bytes);
    }
    EXPECT_GT(successes, 500);  // the test is void if everything was refused
    EXPECT_TRUE(memory.margins_untouched());

    // A circle ends with the bytes asked for; more than the arena has is refused at once.
    set_header(memory, 10, 2 << 2 | 1, 20);
    set_header(memory, 20, 2 << 2 | 1, 10);
    EXPECT_TRUE(arena.read(10, 0, buffer.data(), 5000));
    EXPECT_FALSE(arena.read(10, 0, buffer.data(), units * 64 + 1));
    EXPECT_FALSE(arena.read(10, SIZE_MAX - 10, buffer.data(), 100));
    EXPECT_FALSE(arena.read(10, 100, buffer.data(), SIZE_MAX - 10));
    // A block in use, free, too short, too long, at either end.
    const auto readable = [&](std::uint32_t unit, std::uint32_t word) {
        set_header(memory, unit, word, 0);
        return arena.read(unit, 0, buffer.data(), 1);
    };
    EXPECT_TRUE(readable(30, 2 << 2 | 1));
    EXPECT_FALSE(readable(30, 2 << 2));
    EXPECT_FALSE(readable(30, 1 << 2 | 1));
    EXPECT_FALSE(readable(30, 0));
    EXPECT_FALSE(readable(30, UINT32_MAX));
    EXPECT_TRUE(readable(30, (units - 31) << 2 | 1));
    EXPECT_FALSE(readable(30, (units - 30) << 2 | 1));
    EXPECT_FALSE(readable(units - 2, 2 << 2 | 1));
    EXPECT_FALSE(readable(units - 1, 2 << 2 | 1));
    EXPECT_FALSE(readable(0, 2 << 2 | 1));
    EXPECT_FALSE(arena.read(units, 0, buffer.data(), 1));
    EXPECT_FALSE(arena.read(UINT32_MAX, 0, buffer.data(), 1));
}

TEST(Arena, ReadAndWriteStopAtTheEndOfTheValue) {
    ArenaMemory memory(1000);
    Arena arena = memory.arena();
    const std::uint32_t first = arena.allocate(1000);
    const std::size_t end = arena.head_bytes(first);
    std::vector<unsigned char> buffer(end + 1, 1);
    EXPECT_TRUE(arena.write(first, 0, buffer.data(), end));
    EXPECT_TRUE(arena.read(first, end, buffer.data(), 0));
    EXPECT_FALSE(arena.read(first, end + 1, buffer.data(), 0));
    EXPECT_FALSE(arena.read(first, 0, buffer.data(), end + 1));
    EXPECT_FALSE(arena.write(first, 1, buffer.data(), end));
    EXPECT_TRUE(arena.check());
}

}  // namespace
