// An arena beside what it should hold: the unit tests and the fuzz target drive both and compare.
//
// Every value's bytes follow from its seed, so a byte that strays into a neighbour, a free list or a block
// header shows when any of the values is read. The model keeps its own account of the free payload; with it
// `store` knows whether the arena had to accept. The memory around the arena is filled and compared too.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/arena.hpp"

namespace prompt_cache::test {

struct ArenaMemory {
    static constexpr std::size_t kMargin = 256;
    static constexpr unsigned char kFill = 0xA5;

    explicit ArenaMemory(std::uint32_t arena_units) : units(arena_units) {
        const std::size_t bytes = 2 * kMargin + std::size_t{units} * core::Arena::kUnitBytes;
        block = static_cast<unsigned char*>(std::aligned_alloc(64, bytes));
        std::memset(block, kFill, bytes);
        core::Arena(&state, block + kMargin, units).init();
    }
    ~ArenaMemory() { std::free(block); }
    ArenaMemory(const ArenaMemory&) = delete;
    ArenaMemory& operator=(const ArenaMemory&) = delete;

    core::Arena arena() { return core::Arena(&state, block + kMargin, units); }
    unsigned char* base() { return block + kMargin; }

    bool margins_untouched() const {
        const unsigned char* after = block + kMargin + std::size_t{units} * core::Arena::kUnitBytes;
        for (std::size_t i = 0; i < kMargin; ++i)
            if (block[i] != kFill || after[i] != kFill) return false;
        return true;
    }

    std::uint32_t units;
    core::ArenaShared state{};
    unsigned char* block;
};

struct ArenaModel {
    struct Value {
        std::uint32_t first;
        std::size_t bytes;
        std::uint64_t seed;
        std::uint32_t units;
    };

    explicit ArenaModel(std::uint32_t units) : memory(units), arena(memory.arena()) {}

    static unsigned char byte_at(std::uint64_t seed, std::size_t i) {
        return static_cast<unsigned char>((seed + i) * 0x9E3779B97F4A7C15u >> 56);
    }

    void fill(std::uint64_t seed, std::size_t bytes) {
        scratch.resize(bytes);
        for (std::size_t i = 0; i < bytes; ++i) scratch[i] = byte_at(seed, i);
    }

    // Stores a value. False is an error: the arena refused what fits, took what does not, or lost units.
    bool store(std::size_t bytes) {
        const std::uint32_t used = arena.used_units();
        const bool fits = used != arena.capacity_units() && bytes <= arena.free_payload_bytes();
        const std::uint32_t first = arena.allocate(bytes);
        if ((first != 0) != fits) return false;
        if (first == 0) return arena.used_units() == used;

        const core::Arena::Footprint taken = arena.footprint(first);
        used_units += taken.units;
        blocks_made += taken.blocks;
        if (arena.used_units() != used_units) return false;
        const std::uint32_t least = core::Arena::units_for(bytes);
        if (taken.blocks == 1 && taken.units != least && taken.units != least + 1) return false;
        const std::uint64_t seed = ++seeds * 1000003;
        values.push_back({first, bytes, seed, taken.units});
        fill(seed, bytes);
        return arena.write(first, 0, scratch.data(), bytes);
    }

    bool intact(std::size_t i) {
        const Value& value = values[i];
        fill(value.seed, value.bytes);
        copy.assign(value.bytes, 0);
        return arena.read(value.first, 0, copy.data(), value.bytes) && copy == scratch;
    }

    // Reads and writes a piece in the middle.
    bool piece_intact(std::size_t i, std::size_t offset, std::size_t n) {
        const Value& value = values[i];
        if (value.bytes == 0) return true;
        offset %= value.bytes;
        n %= value.bytes - offset + 1;
        fill(value.seed + offset, n);
        copy.assign(n, 0);
        return arena.read(value.first, offset, copy.data(), n) && copy == scratch &&
               arena.write(value.first, offset, scratch.data(), n);
    }

    bool remove(std::size_t i) {
        if (!intact(i)) return false;
        const Value value = values[i];
        values[i] = values.back();
        values.pop_back();
        used_units -= value.units;
        return arena.release(value.first) == value.units && arena.used_units() == used_units;
    }

    bool all_intact() {
        for (std::size_t i = 0; i < values.size(); ++i)
            if (!intact(i)) return false;
        return arena.check() && memory.margins_untouched();
    }

    bool remove_all() {
        while (!values.empty())
            if (!remove(values.size() - 1)) return false;
        return arena.check() && arena.used_units() == 0 && memory.state.used_blocks.load() == 0 &&
               memory.state.allocations.load() == 0 && memory.margins_untouched() &&
               memory.state.free_blocks.load() == (arena.capacity_units() == 0 ? 0u : 1u);
    }

    ArenaMemory memory;
    core::Arena arena;
    std::vector<Value> values;
    std::uint64_t blocks_made = 0;

  private:
    std::uint32_t used_units = 0;
    std::uint64_t seeds = 0;
    std::vector<unsigned char> scratch;
    std::vector<unsigned char> copy;
};

}  // namespace prompt_cache::test
