// A wide slot under threads: writers begin, mark and end, some while others pass; readers hit, build and store. Every hit is
// compared with what a build gives at that moment.
//
// The list of who runs has a lock, as the server's has; slot and verdict have none of their own here. What a transaction
// has written is a random number, and a value the xor of those that its snapshot sees, with those of every second
// transaction once more as soon as it has ended, as DDL shows.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "core/wide_slot.hpp"

namespace {

using prompt_cache::core::SlotShared;
using prompt_cache::core::SnapshotView;
using prompt_cache::core::WideSlot;
using prompt_cache::core::Xid;

constexpr unsigned kWriters = 3;
constexpr unsigned kReaders = 2;
constexpr unsigned kIds = 4;
constexpr Xid kFirst = (Xid{3} << 32) - 1000;

class Server {
  public:
    explicit Server(std::size_t transactions) : rows_(transactions + 1), ddl_(transactions + 1) {
        std::mt19937_64 random(1);
        for (std::size_t i = 0; i < transactions; i++) {
            rows_[i + 1] = rows_[i] ^ random();
            ddl_[i + 1] = ddl_[i] ^ (i % 2 == 0 ? 0 : random());
        }
    }

    struct Snapshot {
        Xid xmin, xmax;
        std::vector<std::uint32_t> running;
        operator SnapshotView() const { return {xmin, xmax, running}; }
    };

    Xid begin() {
        const std::lock_guard lock(mutex_);
        running_.push_back(next_);
        return next_++;
    }
    void end(Xid writer) {
        const std::lock_guard lock(mutex_);
        std::erase(running_, writer);
        completed_ = std::max(completed_, writer + 1);
    }
    Snapshot now() const {
        const std::lock_guard lock(mutex_);
        Snapshot snapshot{completed_, completed_, {}};
        for (const Xid xid : running_) {
            if (xid >= completed_) continue;
            snapshot.running.push_back(static_cast<std::uint32_t>(xid));
            snapshot.xmin = std::min(snapshot.xmin, xid);
        }
        return snapshot;
    }
    std::uint64_t value(const Snapshot& snapshot, const Snapshot& now) const { return seen(rows_, snapshot) ^ seen(ddl_, now); }

  private:
    static std::uint64_t seen(const std::vector<std::uint64_t>& sums, const Snapshot& snapshot) {
        std::uint64_t all = sums[snapshot.xmax - kFirst];
        for (const std::uint32_t low : snapshot.running) {
            const std::uint32_t i = low - static_cast<std::uint32_t>(kFirst);
            all ^= sums[i] ^ sums[i + 1];
        }
        return all;
    }

    mutable std::mutex mutex_;
    std::vector<Xid> running_;
    Xid next_ = kFirst;
    Xid completed_ = kFirst;
    std::vector<std::uint64_t> rows_, ddl_;  // of all transactions before
};

struct Entry {
    std::uint64_t value = 0;
    std::uint64_t gen = ~std::uint64_t{0};
};

TEST(WideSlotThreads, EveryHitIsExact) {
    constexpr unsigned kEach = 1000;
    Server server(kWriters * kEach);
    std::vector<SlotShared> lines(WideSlot::lines(kIds));
    WideSlot slot(lines.data(), kIds);
    std::mutex entry_mutex;
    Entry entry;
    std::atomic<unsigned> writing{kWriters};
    std::atomic<std::uint64_t> hits{0}, stores{0}, wrong{0};
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < kWriters; ++number)
        threads.emplace_back([&, number] {
            std::mt19937_64 random(number);
            for (unsigned i = 0; i < kEach; ++i) {
                const Xid writer = server.begin();
                Server::Snapshot others = server.now();
                std::erase(others.running, static_cast<std::uint32_t>(writer));
                slot.mark(writer, {others, writer});
                for (auto left = random() % 16; left > 0; --left) std::this_thread::yield();
                server.end(writer);
                for (auto left = random() % 8; left > 0; --left) std::this_thread::yield();
            }
            --writing;
        });
    for (unsigned number = 0; number < kReaders; ++number)
        threads.emplace_back([&, number] {
            std::mt19937_64 random(100 + number);
            Server::Snapshot snapshot = server.now();
            while (writing.load() != 0) {
                if (random() % 4 != 0) snapshot = server.now();
                Entry loaded;
                {
                    const std::lock_guard lock(entry_mutex);
                    loaded = entry;
                }
                const std::uint64_t before = server.value(snapshot, server.now());
                Server::Snapshot current;
                if (slot.hit(loaded.gen, snapshot, [&]() -> SnapshotView { return current = server.now(); })) {
                    const std::uint64_t after = server.value(snapshot, server.now());
                    if (before == after) {
                        ++hits;
                        wrong += loaded.value != after;
                    }
                    continue;
                }
                const std::uint64_t built = server.value(snapshot, server.now());
                if (const auto gen = slot.store_generation(snapshot, server.now())) {
                    ++stores;
                    const std::lock_guard lock(entry_mutex);
                    entry = {built, *gen};
                }
            }
        });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong.load(), 0u);
    EXPECT_GT(hits.load(), 0u);
    EXPECT_GT(stores.load(), 0u);
    const Server::Snapshot last = server.now();
    EXPECT_TRUE(slot.store_generation(last, last));
    EXPECT_FALSE(slot.has_pending());
}

}  // namespace
