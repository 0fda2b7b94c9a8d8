// Slots in one thread: every rule by itself, the verdict against complete histories, and the protocol as a
// whole over every order of steps in small worlds (slot_model.hpp), with each rule taken away once.
#include "core/slot.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "slot_model.hpp"

#ifndef PROMPT_CACHE_TEST
#error "compile the unit tests and src/core with -DPROMPT_CACHE_TEST: the negative controls need the switches"
#endif

namespace {

using prompt_cache::core::kSlotIds;
using prompt_cache::core::removed_rules;
using prompt_cache::core::Rule;
using prompt_cache::core::SlotHistory;
using prompt_cache::core::SlotShared;
using prompt_cache::core::SnapshotView;
using prompt_cache::core::Xid;
using prompt_cache::test::Explorer;
using prompt_cache::test::WorldOptions;

class RuleRemoved {
  public:
    explicit RuleRemoved(Rule rule) { removed_rules = 1u << static_cast<unsigned>(rule); }
    ~RuleRemoved() { removed_rules = 0; }
};

SlotHistory marked_by(std::initializer_list<Xid> writers) {
    SlotHistory slot;
    for (const Xid writer : writers) slot.push(writer);
    return slot;
}

// A snapshot that owns its list of running ids.
struct Snapshot {
    Snapshot(Xid xmin, Xid xmax, std::initializer_list<Xid> running_ids) : xmin(xmin), xmax(xmax) {
        for (const Xid xid : running_ids) running.push_back(static_cast<std::uint32_t>(xid));
    }
    operator SnapshotView() const { return {xmin, xmax, running}; }
    Xid xmin, xmax;
    std::vector<std::uint32_t> running;
};

constexpr Xid kWrap = Xid{7} << 32;

TEST(Slot, CompleteIsDecidedByTheSnapshotAlone) {
    const Snapshot snapshot(100, 110, {100, 105});
    const SnapshotView view = snapshot;
    for (Xid xid = 90; xid < 120; ++xid)
        EXPECT_EQ(view.complete(xid), xid < 110 && xid != 100 && xid != 105) << xid;
    EXPECT_FALSE(view.complete(~Xid{0}));
}

TEST(Slot, CompleteAcrossTheWrapOfTheLowHalf) {
    const Snapshot snapshot(kWrap - 2, kWrap + 3, {kWrap - 2, kWrap + 1});
    const SnapshotView view = snapshot;
    for (Xid xid = kWrap - 5; xid < kWrap + 6; ++xid)
        EXPECT_EQ(view.complete(xid), xid < kWrap + 3 && xid != kWrap - 2 && xid != kWrap + 1) << xid - kWrap;
    // The same low half an epoch earlier is long complete, an epoch later not begun.
    EXPECT_TRUE(view.complete(kWrap + 1 - (Xid{1} << 32)));
    EXPECT_FALSE(view.complete(kWrap + 1 + (Xid{1} << 32)));
}

TEST(Slot, PushKeepsTheNewestFirst) {
    SlotHistory slot = marked_by({11, 12, 13});
    EXPECT_EQ(slot.gen, 3u);
    EXPECT_EQ(slot.n, 3u);
    EXPECT_EQ(slot.xid[0], 13u);
    EXPECT_EQ(slot.xid[2], 11u);
    EXPECT_EQ(slot.dropped_max_xid, 0u);
    for (const Xid again : {11, 12, 13}) EXPECT_FALSE(slot.push(again));
    EXPECT_EQ(slot.gen, 3u);
}

TEST(Slot, PushedOutIdsRaiseTheDroppedBound) {
    SlotHistory slot = marked_by({50, 20, 30, 40});
    EXPECT_EQ(slot.dropped_max_xid, 0u);
    EXPECT_TRUE(slot.push(25));
    EXPECT_EQ(slot.dropped_max_xid, 50u);
    EXPECT_TRUE(slot.push(26));  // 20 goes: lower, the bound stays
    EXPECT_EQ(slot.dropped_max_xid, 50u);
    EXPECT_EQ(slot.max_xid, 50u);
    EXPECT_EQ(slot.n, kSlotIds);
    EXPECT_TRUE(slot.push(50));  // no longer remembered: counts again
    EXPECT_EQ(slot.gen, 7u);
    EXPECT_EQ(slot.xid[0], 50u);
}

TEST(Slot, EmptySlotHitsForEverySnapshot) {
    const SlotHistory slot;
    EXPECT_TRUE(slot.hit(0, Snapshot(3, 3, {})));
    EXPECT_EQ(slot.store_generation(Snapshot(3, 3, {})), 0u);
}

TEST(Slot, EntryBeforeTheMark) {
    const SlotHistory slot = marked_by({100});
    EXPECT_TRUE(slot.hit(0, Snapshot(100, 101, {100})));  // the writer is still running for S
    EXPECT_TRUE(slot.hit(0, Snapshot(100, 100, {})));     // ... or had not begun
    EXPECT_FALSE(slot.hit(0, Snapshot(101, 101, {})));    // S sees it
    EXPECT_FALSE(slot.hit(0, Snapshot(99, 105, {99})));
}

TEST(Slot, EntryAfterTheMark) {
    const SlotHistory slot = marked_by({100});
    EXPECT_TRUE(slot.hit(1, Snapshot(101, 101, {})));
    EXPECT_TRUE(slot.hit(1, Snapshot(99, 105, {99})));     // not the fast path: something older is running
    EXPECT_FALSE(slot.hit(1, Snapshot(100, 101, {100})));  // an old snapshot, a new entry
    EXPECT_FALSE(slot.hit(1, Snapshot(100, 100, {})));
}

TEST(Slot, EntryInTheMiddle) {
    const SlotHistory slot = marked_by({100, 101, 102, 103});
    const Snapshot snapshot(102, 104, {102, 103});
    for (std::uint64_t gen = 0; gen <= 4; ++gen) EXPECT_EQ(slot.hit(gen, snapshot), gen == 2) << gen;
    EXPECT_EQ(slot.store_generation(snapshot), 2u);
    // Marked in another order than they end: no generation is right.
    const Snapshot mixed(101, 104, {101, 103});
    for (std::uint64_t gen = 0; gen <= 4; ++gen) EXPECT_FALSE(slot.hit(gen, mixed)) << gen;
    EXPECT_FALSE(slot.store_generation(mixed));
}

TEST(Slot, GenerationsOutsideTheHistoryMiss) {
    const SlotHistory slot = marked_by({100, 101, 102, 103, 104});
    const Snapshot before(90, 90, {});
    EXPECT_FALSE(slot.hit(0, before));  // five marks ago, four remembered
    EXPECT_FALSE(slot.hit(6, Snapshot(200, 200, {})));
    EXPECT_FALSE(slot.hit(~std::uint64_t{0}, Snapshot(200, 200, {})));
    EXPECT_TRUE(slot.hit(1, Snapshot(101, 105, {101, 102, 103, 104})));
}

TEST(Slot, DroppedBound) {
    const SlotHistory slot = marked_by({100, 101, 102, 103, 104});
    const Snapshot snapshot(99, 105, {99});  // sees all five, but cannot be sure about the one pushed out
    EXPECT_FALSE(slot.hit(5, snapshot));
    EXPECT_FALSE(slot.store_generation(snapshot));
    const Snapshot beyond(101, 105, {101, 102, 103, 104});
    EXPECT_TRUE(slot.hit(1, beyond));
    EXPECT_EQ(slot.store_generation(beyond), 1u);
    EXPECT_FALSE(slot.store_generation(Snapshot(100, 105, {100, 101, 102, 103, 104})));
}

// The fast path asks for the highest id ever marked: the remembered ones may all be older.
TEST(Slot, FastPathLooksBehindTheHistory) {
    const SlotHistory slot = marked_by({200, 100, 101, 102, 103});
    const Snapshot snapshot(200, 201, {200});
    EXPECT_FALSE(slot.hit(5, snapshot));
    EXPECT_TRUE(slot.hit(5, Snapshot(201, 201, {})));
}

TEST(Slot, SharedSlotFollowsTheHistory) {
    std::mt19937_64 random(5);
    alignas(64) unsigned char zero[sizeof(SlotShared)] = {};
    auto& shared = *reinterpret_cast<SlotShared*>(zero);
    SlotHistory history;
    unsigned hits = 0;
    unsigned hits_behind = 0;
    for (int i = 0; i < 2000; ++i) {
        const Xid writer = kWrap - 500 + static_cast<Xid>(i) / 2 + random() % 6;
        shared.mark(writer, {});
        history.push(writer);
        for (const SlotHistory& copy : {shared.read(), shared.read_locked()}) {
            ASSERT_EQ(copy.gen, history.gen);
            ASSERT_EQ(copy.n, history.n);
            ASSERT_EQ(copy.max_xid, history.max_xid);
            ASSERT_EQ(copy.dropped_max_xid, history.dropped_max_xid);
            for (unsigned k = 0; k < kSlotIds; ++k) ASSERT_EQ(copy.xid[k], history.xid[k]);
        }
        // The verdict on the shared slot is the one on its history.
        const Xid xmin = history.max_xid + 2 - random() % 6;
        const Snapshot snapshot(xmin, xmin + 1 + random() % 8, {xmin, xmin + 2});
        for (std::uint64_t back = 0; back <= std::min<std::uint64_t>(history.gen, 6); ++back) {
            const std::uint64_t gen = history.gen + 1 - back;
            const bool hit = history.hit(gen, snapshot);
            ASSERT_EQ((shared.quiet_hit(gen, snapshot) || shared.read().hit(gen, snapshot)), hit) << gen;
            (back == 1 ? hits : hits_behind) += hit;
        }
    }
    EXPECT_GT(hits, 100u);
    EXPECT_GT(hits_behind, 100u);
}

// The verdict and the store rule against the whole list of marks, which the slot itself has forgotten.
TEST(Slot, VerdictAgainstTheWholeHistory) {
    std::mt19937_64 random(9);
    std::uint64_t hits = 0, stored = 0, behind = 0, refused = 0;
    for (int round = 0; round < 200000; ++round) {
        SlotHistory slot;
        std::vector<Xid> marks;
        const Xid base = random() % 2 == 0 ? kWrap - 4 : 1000;
        for (auto left = random() % 9; left > 0; --left) {
            const Xid writer = base + random() % 10;
            if (slot.push(writer)) marks.push_back(writer);
        }
        Snapshot snapshot(base + random() % 11, 0, {});
        snapshot.xmax = snapshot.xmin + random() % 11;
        for (Xid xid = snapshot.xmin; xid < snapshot.xmax; ++xid)
            if (xid == snapshot.xmin || random() % 2 == 0)
                snapshot.running.push_back(static_cast<std::uint32_t>(xid));
        const SnapshotView view = snapshot;

        ASSERT_EQ(slot.gen, marks.size());
        // Exact: the marks up to `gen` complete, the later ones running. Nothing else may be answered or
        // stored.
        const auto exact = [&](std::uint64_t gen) {
            for (std::size_t i = 0; i < marks.size(); ++i)
                if (view.complete(marks[i]) != (i < gen)) return false;
            return true;
        };
        const bool sure = slot.dropped_max_xid < snapshot.xmin;
        for (std::uint64_t gen = 0; gen <= marks.size() + 1; ++gen) {
            const bool hit = slot.hit(gen, view);
            const bool expected = gen <= marks.size() && marks.size() - gen <= slot.n && sure && exact(gen);
            ASSERT_EQ(hit, expected) << "round " << round << " gen " << gen;
            hits += hit;
            behind += hit && gen < marks.size();
            refused += !hit && gen <= marks.size() && exact(gen);
        }
        if (const auto gen = slot.store_generation(view)) {
            ASSERT_TRUE(exact(*gen)) << "round " << round;
            ASSERT_TRUE(slot.hit(*gen, view));
            ++stored;
        } else {
            for (std::uint64_t gen = 0; gen <= marks.size(); ++gen) ASSERT_FALSE(slot.hit(gen, view));
        }
    }
    EXPECT_GT(hits, 10000u);
    EXPECT_GT(behind, 10000u);
    EXPECT_GT(stored, 10000u);
    EXPECT_GT(refused, 100u);  // exact, but pushed out too soon: the accepted cost
}

// Three kinds of small worlds. The first has every step of every writer; four ids hold its whole history.
// In the second, short transactions pass while one runs: ids are pushed out in the order of their numbers.
// In the third all five writers run from the start and the one with the highest number may mark first.
WorldOptions every_step() {
    return {.writers = 3};
}
WorldOptions one_long_writer() {
    return {.writers = 6, .begun = 1, .quick = 0b111110};
}
WorldOptions all_at_once() {
    return {.writers = 5, .begun = 5, .quick = 0b01111, .rounds = 1};
}

constexpr std::size_t kMostStates = 2000000;

void expect_exact(const WorldOptions& options, bool pushes_out) {
    Explorer world(options);
    EXPECT_TRUE(world.explore_all(kMostStates))
        << "violated " << world.violated << " states " << world.states;
    EXPECT_GT(world.hits, 100u);
    EXPECT_GT(world.hits_behind, 100u);
    EXPECT_GT(world.stores, 100u);
    if (pushes_out) {
        EXPECT_GT(world.drops, 100u);
    }
}

// The same protocol was once explored by an independent program with four ids, every writer and reader told
// apart: it counted as many worlds. A step that gets lost here shows in these numbers.
TEST(SlotWorlds, CountsAreThoseOfTheModel) {
    struct {
        unsigned writers, rounds;
        std::uint64_t states;
    } const known[] = {{2, 2, 24294}, {3, 1, 89800}, {3, 2, 558224}};
    for (const auto& [writers, rounds, states] : known) {
        Explorer world({.writers = writers, .rounds = rounds, .distinct_readers = true});
        EXPECT_TRUE(world.explore_all(kMostStates));
        EXPECT_EQ(world.states, states);
    }
}

TEST(SlotWorlds, EveryStepOfThreeWriters) {
    expect_exact(every_step(), false);
}
TEST(SlotWorlds, OneLongWriterAmongShortOnes) {
    expect_exact(one_long_writer(), true);
}
TEST(SlotWorlds, FiveWritersAtOnce) {
    expect_exact(all_at_once(), true);
}

TEST(SlotWorlds, WritersThatMarkTwice) {
    WorldOptions options = one_long_writer();
    options.remarks = true;
    expect_exact(options, true);
}

TEST(SlotWorlds, ApplicationLeases) {
    for (WorldOptions options : {every_step(), one_long_writer(), all_at_once()}) {
        options.lease = true;
        Explorer world(options);
        EXPECT_TRUE(world.explore_all(kMostStates));
        EXPECT_GT(world.hits_behind, 100u);
    }
}

TEST(SlotWorlds, RandomWalksWithEightWriters) {
    std::mt19937_64 random(1);
    for (unsigned begun = 0; begun < 8; ++begun) {
        Explorer world({.writers = 8, .begun = begun, .readers = 3, .rounds = 6, .remarks = true});
        EXPECT_TRUE(world.walk(random, 4000)) << begun;
        EXPECT_GT(world.hits, 100u) << begun;
        EXPECT_GT(world.drops, 100u) << begun;
    }
}

// Writers that look who is running before they mark, in a step of its own: ids that had finished leave a
// bound on xmax. What is pushed out while it runs must still hold readers back.
WorldOptions settling(WorldOptions options) {
    options.settle = true;
    return options;
}
// The first runs all the time; short ones pass, some of which change another tag.
WorldOptions with_bystanders() {
    return {.writers = 8, .begun = 1, .quick = 0b0111110, .bystanders = 0b11000000, .rounds = 2};
}

TEST(SlotWorlds, SettledBoundIsExact) {
    for (const WorldOptions& options :
         {settling(one_long_writer()), settling(all_at_once()), settling(with_bystanders())}) {
        Explorer world(options);
        EXPECT_TRUE(world.explore_all(kMostStates))
            << "violated " << world.violated << " states " << world.states;
        EXPECT_GT(world.drops, 100u);
        EXPECT_GT(world.settled_drops, 100u);
        EXPECT_GT(world.hits, 100u);
        if (options.bystanders != 0) {
            EXPECT_GT(world.settled_hits, 100u);
        }
    }
}

TEST(SlotWorlds, SettledBoundInRandomWalks) {
    std::mt19937_64 random(2);
    for (unsigned begun = 0; begun < 10; ++begun) {
        Explorer world(settling({.writers = 10,
                                 .begun = begun,
                                 .bystanders = 0b1001001000,
                                 .readers = 3,
                                 .rounds = 6,
                                 .remarks = true}));
        EXPECT_TRUE(world.walk(random, 4000)) << begun;
        EXPECT_GT(world.settled_drops, 100u) << begun;
    }
}

// One transaction runs all the time and five others mark and commit: the sixth mark's readers hit again.
TEST(Slot, ALongTransactionDoesNotKeepABusySlotFromHitting) {
    SlotHistory slot;
    const std::uint32_t long_one = 100;
    for (Xid writer = 101; writer <= 106; ++writer) {
        const prompt_cache::core::Moment moment{{100, writer, {&long_one, 1}}, writer};
        slot.push(writer, &moment);
    }
    EXPECT_TRUE(slot.settled);
    const SnapshotView right_after{100, 107, {&long_one, 1}};  // nobody has taken an id since
    ASSERT_TRUE(slot.store_generation(right_after));
    EXPECT_TRUE(slot.hit(6, right_after));
    const SnapshotView before_the_end{
        100, 106, {&long_one, 1}};  // the last marker runs: any time before its end
    EXPECT_FALSE(slot.hit(5, before_the_end));
}

// What an application puts was read after its lease: nobody may have been running then but the putter itself.
TEST(Slot, APutNeedsEveryIdComplete) {
    SlotHistory slot;
    slot.push(100);
    const std::uint32_t running = 101;
    const SnapshotView lease{101, 103, {&running, 1}};
    EXPECT_EQ(slot.put_generation(lease, 0), slot.gen);
    slot.push(101);  // was running when the lease was given
    EXPECT_EQ(slot.store_generation(lease), slot.gen - 1);
    EXPECT_EQ(slot.put_generation(lease, 0), std::nullopt);
    EXPECT_EQ(slot.put_generation(lease, 101), slot.gen);  // its own change
    slot.push(104);  // began after the lease
    EXPECT_EQ(slot.put_generation(lease, 101), std::nullopt);
}

// An id that the putter's own mark pushes out may have ended after the lease.
TEST(Slot, AnOwnMarkTellsNothingOfWhatItPushedOut) {
    SlotHistory slot;
    for (Xid writer = 101; writer <= 104; ++writer) slot.push(writer);
    const prompt_cache::core::Moment moment{{105, 106, {}}, 105};
    slot.push(105, &moment);
    EXPECT_TRUE(slot.settled);
    const std::uint32_t running = 101;
    const SnapshotView before_101_ended{101, 105, {&running, 1}};
    EXPECT_EQ(slot.put_generation(before_101_ended, 105), std::nullopt);
    const SnapshotView after{105, 106, {}};
    EXPECT_EQ(slot.put_generation(after, 105), slot.gen);
}

// Negative controls: without the rule, some order of steps gives a wrong answer and the explorer finds it.
void expect_caught(const WorldOptions& options) {
    Explorer world(options);
    EXPECT_FALSE(world.explore_all(kMostStates));
    EXPECT_TRUE(world.violated);
}

TEST(SlotControls, StoreCheck) {
    RuleRemoved removed(Rule::kStoreCheck);
    expect_caught(every_step());
}

TEST(SlotControls, DroppedBound) {
    RuleRemoved removed(Rule::kDroppedBound);
    expect_caught(one_long_writer());
    expect_caught(all_at_once());
}

TEST(SlotControls, NewestRunning) {
    RuleRemoved removed(Rule::kNewestRunning);
    expect_caught(every_step());
}

TEST(SlotControls, OldestComplete) {
    RuleRemoved removed(Rule::kOldestComplete);
    expect_caught(every_step());
}

TEST(SlotControls, FastPathNewest) {
    RuleRemoved removed(Rule::kFastPathNewest);
    expect_caught(all_at_once());
}

TEST(SlotControls, MarkBeforeEnd) {
    WorldOptions options = every_step();
    options.late_mark = true;
    expect_caught(options);
}

TEST(SlotControls, WholeMark) {
    WorldOptions options = every_step();
    options.torn_number = true;
    expect_caught(options);
}

TEST(SlotControls, DroppedWhileRunningIsNotSettled) {
    WorldOptions options = settling(with_bystanders());
    options.settle_running = true;
    expect_caught(options);
}

TEST(SlotControls, LeaseStoredByTheRuleForBuilders) {
    WorldOptions options = every_step();
    options.lease = options.lease_with_k = true;
    expect_caught(options);
}

}  // namespace
