// The seqlock of a slot: writers mark at once, readers copy without a lock.
//
// The mark that made the slot's generation g left one id, one highest id and one dropped bound; whoever
// copies the slot at g or up to three marks later must find those. Readers enter what they see into a table
// by g and compare with what is there already: a torn copy contradicts another copy.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "core/slot.hpp"

namespace {

using prompt_cache::core::kSlotIds;
using prompt_cache::core::removed_rules;
using prompt_cache::core::Rule;
using prompt_cache::core::SlotHistory;
using prompt_cache::core::SlotShared;
using prompt_cache::core::Xid;

constexpr unsigned kWriters = 3;
constexpr unsigned kReaders = 2;

// A hit under a snapshot without running transactions: every mark up to `gen` must lie below `xmin`.
struct Hit {
    std::uint64_t gen;
    Xid xmin;
};

class Table {
  public:
    explicit Table(std::size_t marks) : id_(marks + 1), max_(marks + 1), dropped_(marks + 1) {}

    bool agrees(const SlotHistory& copy) {
        if (copy.gen >= id_.size() || copy.n != std::min<std::uint64_t>(copy.gen, kSlotIds)) return false;
        if (copy.gen == 0) return copy.max_xid == 0 && copy.dropped_max_xid == 0;
        bool good = same(max_[copy.gen], copy.max_xid);
        if (copy.gen > kSlotIds) good &= same(dropped_[copy.gen], copy.dropped_max_xid);
        for (unsigned i = 0; i < copy.n; ++i) good &= same(id_[copy.gen - i], copy.xid[i]);
        return good;
    }

    // After the threads have ended: the highest ids follow from the marks, no mark is there twice, and every
    // hit was right.
    bool consistent(const std::vector<Hit>& hits) const {
        Xid highest = 0;
        std::vector<Xid> highest_at(id_.size());
        for (std::size_t g = 1; g < id_.size(); ++g) {
            if (id_[g] == 0) return false;
            highest = std::max(highest, id_[g].load());
            highest_at[g] = highest;
            if (max_[g] != 0 && max_[g] != highest) return false;
            if (dropped_[g] != 0 && dropped_[g] != highest_at[g - kSlotIds]) return false;
        }
        for (const Hit& hit : hits)
            if (hit.gen >= id_.size() || highest_at[hit.gen] >= hit.xmin) return false;
        std::vector<Xid> ids(id_.begin() + 1, id_.end());
        std::sort(ids.begin(), ids.end());
        return std::adjacent_find(ids.begin(), ids.end()) == ids.end();
    }

  private:
    static bool same(std::atomic<Xid>& cell, Xid seen) {
        Xid there = cell.load(std::memory_order_relaxed);
        if (there == 0 && cell.compare_exchange_strong(there, seen, std::memory_order_relaxed))
            return seen != 0;
        return there == seen;
    }

    std::vector<std::atomic<Xid>> id_, max_, dropped_;
};

struct Outcome {
    std::uint64_t copies = 0;
    std::uint64_t hits = 0;
    std::uint64_t contradictions = 0;
    bool consistent = false;
    SlotHistory last;
};

// Each writer's ids rise, but those of different writers interleave in any order.
Outcome run(unsigned marks_each, bool readers_yield) {
    SlotShared slot{};
    Table table(kWriters * marks_each);
    std::atomic<unsigned> writing{kWriters};
    std::atomic<std::uint64_t> copies{0};
    std::atomic<std::uint64_t> contradictions{0};
    std::vector<Hit> hits[kReaders];
    std::vector<std::thread> threads;
    for (unsigned writer = 0; writer < kWriters; ++writer)
        threads.emplace_back([&, writer] {
            for (unsigned i = 0; i < marks_each; ++i) {
                slot.mark((Xid{3} << 32) - 1000 + Xid{i} * kWriters + writer, {});
                if (!table.agrees(i % 2 == 0 ? slot.read() : slot.read_locked())) ++contradictions;
            }
            --writing;
        });
    for (unsigned reader = 0; reader < kReaders; ++reader)
        threads.emplace_back([&, reader] {
            std::uint64_t last_gen = 0;
            std::uint64_t mine = 0;
            while (writing.load() != 0) {
                const SlotHistory copy = slot.read();
                if (!table.agrees(copy) || copy.gen < last_gen) ++contradictions;
                last_gen = copy.gen;
                ++mine;
                // An entry of now, and one of the mark that may be under way, for a snapshot of now.
                const Xid xmin = copy.max_xid + 1;
                for (const std::uint64_t gen : {copy.gen, copy.gen + 1})
                    if (slot.quiet_hit(gen, {xmin, xmin, {}}) || slot.read().hit(gen, {xmin, xmin, {}}))
                        hits[reader].push_back({gen, xmin});
                if (readers_yield) std::this_thread::yield();
            }
            copies += mine;
        });
    for (std::thread& thread : threads) thread.join();
    for (unsigned reader = 1; reader < kReaders; ++reader)
        hits[0].insert(hits[0].end(), hits[reader].begin(), hits[reader].end());
    return {copies.load(), hits[0].size(), contradictions.load(), table.consistent(hits[0]), slot.read()};
}

TEST(SlotThreads, NoTornCopyAndNoLostMark) {
    constexpr unsigned kMarksEach = 100000;
    const Outcome outcome = run(kMarksEach, false);
    EXPECT_EQ(outcome.contradictions, 0u);
    EXPECT_TRUE(outcome.consistent);
    EXPECT_GT(outcome.copies, 0u);
    EXPECT_GT(outcome.hits, 0u);
    EXPECT_EQ(outcome.last.gen, kWriters * kMarksEach);
    EXPECT_EQ(outcome.last.max_xid, (Xid{3} << 32) - 1000 + kWriters * kMarksEach - 1);
}

// A marker stopped half way, by hand: the new number stands, the new highest id does not yet.
TEST(SlotThreads, VerdictWaitsForAMarkUnderWay) {
    SlotShared slot{};
    slot.mark(100, {});
    const SlotHistory before = slot.read();
    slot.seq.fetch_add(1);
    slot.gen.store(before.gen + 1);
    std::atomic<int> verdict{-1};
    std::thread reader([&] {
        verdict =
            slot.quiet_hit(before.gen + 1, {150, 150, {}}) || slot.read().hit(before.gen + 1, {150, 150, {}});
    });
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    EXPECT_EQ(verdict.load(), -1);
    slot.xid[1].store(100);
    slot.xid[0].store(200);
    slot.n.store(2);
    slot.max_xid.store(200);
    slot.seq.fetch_add(1);
    reader.join();
    EXPECT_EQ(verdict.load(), 0);
}

// On a busy machine no reader may run while a mark is torn, so it is tried until one does.
TEST(SlotThreads, ControlTornMarksAreSeen) {
    removed_rules = 1u << static_cast<unsigned>(Rule::kWholeMark);
    bool seen = false;
    for (int tries = 0; tries < 1000 && !seen; ++tries) {
        const Outcome outcome = run(1, true);
        seen = outcome.contradictions != 0 || !outcome.consistent;
    }
    removed_rules = 0;
    EXPECT_TRUE(seen);
}

}  // namespace
