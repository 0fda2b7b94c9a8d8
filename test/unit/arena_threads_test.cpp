// The arena with readers that hold no lock, beside a writer.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "arena_model.hpp"
#include "core/arena.hpp"

namespace {

using prompt_cache::core::Arena;
using prompt_cache::test::ArenaMemory;

// Readers without the lock while a writer frees and reuses: every copy that the sequence number confirms is
// whole. With ThreadSanitizer the same test shows that no access is a race beside the intended copies.
TEST(ArenaThreads, LockFreeReadersSeeWholeValues) {
    constexpr std::size_t kBytes = 3000;
    ArenaMemory memory(200);
    std::atomic<std::uint32_t> seq{0};
    std::atomic<std::uint32_t> where{0};
    std::atomic<bool> done{false};
    std::atomic<std::uint64_t> confirmed{0};
    std::atomic<std::uint64_t> torn{0};

    const auto reader = [&] {
        Arena arena = memory.arena();
        std::vector<unsigned char> copy(kBytes);
        while (!done.load(std::memory_order_relaxed)) {
            const std::uint32_t before = seq.load(std::memory_order_acquire);
            const bool read = arena.read(where.load(std::memory_order_relaxed), 0, copy.data(), kBytes);
            std::atomic_thread_fence(std::memory_order_acquire);
            if (before % 2 != 0 || seq.load(std::memory_order_relaxed) != before || before == 0) continue;
            bool whole = read;
            for (unsigned char byte : copy) whole &= byte == copy[0];
            ++(whole ? confirmed : torn);
        }
    };
    std::thread first_reader(reader);
    std::thread second_reader(reader);

    Arena arena = memory.arena();
    std::mt19937_64 random(3);
    std::uint32_t current = 0;
    std::vector<std::uint32_t> others;
    std::vector<unsigned char> bytes(kBytes);
    for (int round = 0; round < 1000000 && (round < 2000 || confirmed.load() < 2000); ++round) {
        seq.fetch_add(1, std::memory_order_acquire);
        std::atomic_thread_fence(std::memory_order_release);
        if (current != 0) arena.release(current);
        if (others.size() > 20 || (!others.empty() && random() % 2 == 0)) {
            const std::size_t i = random() % others.size();
            arena.release(others[i]);
            others[i] = others.back();
            others.pop_back();
        } else if (const std::uint32_t other = arena.allocate(random() % 500)) {
            others.push_back(other);
        }
        while ((current = arena.allocate(kBytes)) == 0) {
            arena.release(others.back());
            others.pop_back();
        }
        std::fill(bytes.begin(), bytes.end(), static_cast<unsigned char>(round));
        arena.write(current, 0, bytes.data(), kBytes);
        where.store(current, std::memory_order_relaxed);
        seq.fetch_add(1, std::memory_order_release);
        // Now and then the value stands still for long enough to be copied whole.
        if (round % 16 == 0)
            for (int i = 0; i < 5000; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
        if (round % 64 == 0) std::this_thread::yield();
    }
    done.store(true);
    first_reader.join();
    second_reader.join();
    EXPECT_EQ(torn.load(), 0u);
    EXPECT_GE(confirmed.load(), 2000u);
    EXPECT_TRUE(arena.check());
}

}  // namespace
