// Wide slots in one thread: every rule by itself, and the protocol as a whole over every order of steps in small
// worlds (wide_slot_model.hpp), with each rule taken away once.
#include "core/wide_slot.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "wide_slot_model.hpp"

namespace {

using prompt_cache::core::Moment;
using prompt_cache::core::removed_rules;
using prompt_cache::core::Rule;
using prompt_cache::core::SlotHistory;
using prompt_cache::core::SlotShared;
using prompt_cache::core::SnapshotView;
using prompt_cache::core::WideSlot;
using prompt_cache::core::Xid;
using prompt_cache::test::WideExplorer;
using prompt_cache::test::WideOptions;

class RuleRemoved {
  public:
    explicit RuleRemoved(Rule rule) { removed_rules = 1u << static_cast<unsigned>(rule); }
    ~RuleRemoved() { removed_rules = 0; }
};

// Transactions of a server, and the slot.
class Server {
  public:
    explicit Server(unsigned ids) : lines_(WideSlot::lines(ids)), slot(lines_.data(), ids) {}

    Xid begin() {
        running_.push_back(next_);
        return next_++;
    }
    void mark(Xid writer) {
        std::vector<std::uint32_t> others;
        slot.mark(writer, {view_of(others, writer), writer});
    }
    Xid prepare() {
        const Xid writer = begin();
        mark(writer);
        return writer;
    }
    void end(Xid writer) {
        std::erase(running_, writer);
        completed_ = std::max(completed_, writer + 1);
    }
    void commit_one() { end(prepare()); }

    struct Snapshot {
        std::vector<std::uint32_t> running;
        SnapshotView view;
    };
    std::unique_ptr<Snapshot> now() const {
        auto snapshot = std::make_unique<Snapshot>();
        snapshot->view = view_of(snapshot->running, 0);
        return snapshot;
    }
    std::optional<std::uint64_t> store(const Snapshot& snapshot) { return slot.store_generation(snapshot.view, now()->view); }
    std::optional<std::uint64_t> store() { return store(*now()); }
    bool hits(std::uint64_t gen, const Snapshot& snapshot) const {
        const auto current = now();
        return slot.hit(gen, snapshot.view, [&] { return current->view; });
    }
    bool hits(std::optional<std::uint64_t> gen) const { return gen && hits(*gen, *now()); }
    bool sees_all_ended(const Snapshot& snapshot) const {
        const auto current = now();
        return slot.sees_all_ended(snapshot.view, [&] { return current->view; });
    }

  private:
    SnapshotView view_of(std::vector<std::uint32_t>& list, Xid but) const {
        Xid xmin = completed_;
        for (const Xid xid : running_)
            if (xid != but && xid < completed_) {
                list.push_back(static_cast<std::uint32_t>(xid));
                xmin = std::min(xmin, xid);
            }
        return {xmin, completed_, list};
    }

    std::vector<SlotShared> lines_;
    std::vector<Xid> running_;
    Xid next_ = (Xid{9} << 32) - 7;
    Xid completed_ = next_;

  public:
    WideSlot slot;
};

TEST(WideSlot, AnEmptySlotHits) {
    Server server(3);
    EXPECT_EQ(server.store(), 0u);
    EXPECT_TRUE(server.hits(0));
    EXPECT_FALSE(server.hits(1));
}

// Issue: five prepared transactions with DDL switched a database's cache off until they ended; one did, with any DDL after it.
TEST(WideSlot, PreparedTransactionsDoNotKeepItFromHitting) {
    Server server(30);
    std::vector<Xid> prepared;
    for (int i = 0; i < 20; i++) {
        prepared.push_back(server.prepare());
        server.commit_one();
        const auto gen = server.store();
        ASSERT_TRUE(server.hits(gen)) << i;
    }
    const auto before = server.now();
    std::mt19937 random(1);
    std::shuffle(prepared.begin(), prepared.end(), random);
    for (const Xid writer : prepared) {
        const auto gen = server.store();
        ASSERT_TRUE(server.hits(gen));
        server.end(writer);
        ASSERT_FALSE(server.hits(gen)) << "its DDL is in effect";
        ASSERT_TRUE(server.hits(server.store()));
        ASSERT_FALSE(server.store(*before)) << "a snapshot of before it";
    }
    EXPECT_TRUE(server.hits(server.store()));
}

TEST(WideSlot, AMarkEmptiesNothingBeforeItsWriterEnds) {
    Server server(3);
    const auto gen = server.store();
    const Xid writer = server.prepare();
    EXPECT_TRUE(server.hits(gen));
    EXPECT_EQ(server.store(), gen);
    server.mark(writer);
    EXPECT_TRUE(server.hits(gen));
    server.end(writer);
    EXPECT_FALSE(server.hits(gen));
    EXPECT_NE(server.store(), gen);
}

// Something long holds xmin back, and others come and go: the highest ended id is beyond xmin for good.
TEST(WideSlot, ALongTransactionDoesNotKeepItFromHitting) {
    Server server(5);
    const Xid first = server.begin();
    for (int i = 0; i < 50; i++) {
        server.commit_one();
        ASSERT_TRUE(server.hits(server.store())) << i;
        const Xid bystander = server.begin();
        ASSERT_TRUE(server.hits(server.store())) << i;
        server.end(bystander);
    }
    const Xid second = server.begin();
    server.commit_one();
    server.commit_one();
    const auto gen = server.store();
    EXPECT_TRUE(server.hits(gen));
    server.end(first);
    EXPECT_TRUE(server.hits(gen));
    server.end(second);
    EXPECT_TRUE(server.hits(gen));
}

TEST(WideSlot, ASnapshotOfBeforeADdlBuilds) {
    Server server(5);
    server.begin();  // holds xmin back
    const auto gen = server.store();
    const auto old = server.now();
    const Xid writer = server.prepare();
    EXPECT_TRUE(server.hits(*gen, *old));
    EXPECT_TRUE(server.sees_all_ended(*old)) << "what still runs has shown nothing to anybody";
    server.end(writer);
    EXPECT_FALSE(server.hits(*gen, *old));
    EXPECT_FALSE(server.sees_all_ended(*old));
    EXPECT_FALSE(server.store(*old));
    EXPECT_FALSE(server.hits(*server.slot.put_generation(old->view), *old));
    const auto next = server.store();
    EXPECT_FALSE(server.hits(*next, *old));
    EXPECT_FALSE(server.store(*old));
    EXPECT_FALSE(server.sees_all_ended(*old));
    EXPECT_TRUE(server.sees_all_ended(*server.now()));
}

// More of them than there is room for: nothing hits until all can see one that was not remembered, and nothing is wrong.
TEST(WideSlot, WithoutRoomItMissesUntilAllAreSeen) {
    Server server(3);
    std::vector<Xid> prepared;
    for (int i = 0; i < 3; i++) prepared.push_back(server.prepare());
    EXPECT_TRUE(server.hits(server.store()));
    const Xid fourth = server.prepare();
    EXPECT_FALSE(server.store());
    server.end(fourth);
    EXPECT_FALSE(server.store()) << "those before it may be it";
    for (const Xid writer : prepared) server.end(writer);
    EXPECT_TRUE(server.hits(server.store()));
}

TEST(WideSlot, AMarkMakesRoomOfThoseThatHaveEnded) {
    Server server(3);
    for (int i = 0; i < 100; i++) server.commit_one();
    EXPECT_TRUE(server.hits(server.store()));
}

// The line at the beginning, taken for an ordinary slot, claims no more than is known.
TEST(WideSlot, ItsFirstLineIsACarefulSlot) {
    std::mt19937_64 random(7);
    std::uint64_t quiet = 0;
    for (int round = 0; round < 300; round++) {
        Server server(4);
        const auto* head = reinterpret_cast<SlotShared*>(&server.slot.owner() - 7);
        std::vector<Xid> running;
        for (int step = 0; step < 40; step++) {
            if (random() % 2 == 0) {
                running.push_back(random() % 3 == 0 ? server.begin() : server.prepare());
            } else if (!running.empty()) {
                const std::size_t i = random() % running.size();
                server.end(running[i]);
                running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
            }
            const auto now = server.now();
            const auto gen = server.store();
            const SlotHistory history = head->read();
            if (const auto stored = history.store_generation(now->view)) {
                ASSERT_EQ(stored, gen);
            }
            if (const auto put = history.put_generation(now->view, 0)) {
                ASSERT_EQ(put, gen);
            }
            for (std::uint64_t back = 0; back < 3; back++) {
                const std::uint64_t of = server.slot.gen() - back;
                if (head->quiet_hit(of, now->view) || history.hit(of, now->view)) {
                    ASSERT_TRUE(server.hits(of, *now));
                    quiet++;
                }
            }
        }
    }
    EXPECT_GT(quiet, 1000u);
}

TEST(WideSlot, ListsTheIdsThatHaveEnded) {
    Server server(5);
    for (int i = 0; i < 6; i++) server.commit_one();
    server.store();
    const Xid running = server.prepare();
    const Xid ended = server.prepare();
    server.end(ended);
    Xid ids[5 + WideSlot::kRecent + 1];
    const auto now = server.now();
    const std::size_t count = server.slot.ended_ids(now->view, ids);
    EXPECT_EQ(count, 1u + WideSlot::kRecent + 1u);
    EXPECT_EQ(std::count(ids, ids + count, ended), 1);
    EXPECT_EQ(std::count(ids, ids + count, running), 0);
    EXPECT_TRUE(server.slot.has_unmoved(now->view));
    server.store();
    EXPECT_FALSE(server.slot.has_unmoved(now->view));
}

// Worlds. In the first every step of every writer, DDL or not; in the second writers may abort; in the third short
// transactions pass while one runs; in the fourth all run from the start, as prepared ones do; in the fifth others that
// change another tag hold xmin back.
WideOptions every_step() {
    return {.writers = 3, .ddl = 0b010};
}
WideOptions with_aborts() {
    return {.writers = 2, .ddl = 0b010, .aborts = true};
}
WideOptions one_long_writer() {
    return {.writers = 4, .begun = 1, .quick = 0b1110, .ddl = 0b1001};
}
WideOptions all_at_once() {
    return {.writers = 4, .begun = 4, .quick = 0b0011, .ddl = 0b0110, .rounds = 1};
}
WideOptions with_bystanders() {
    return {.writers = 6, .begun = 1, .quick = 0b001110, .bystanders = 0b110001, .ddl = 0b000100};
}

constexpr std::size_t kMostStates = 3000000;

void expect_exact(const WideOptions& options) {
    WideExplorer world(options);
    EXPECT_TRUE(world.explore_all(kMostStates)) << "violated " << world.violated << " states " << world.states;
    EXPECT_GT(world.hits, 100u);
    EXPECT_GT(world.stores, 100u);
    EXPECT_GT(world.moves, 100u);
    if (options.bystanders == 0) {
        EXPECT_GT(world.pending_hits, 20u);
        EXPECT_GT(world.pending_stores, 20u);
    }
}

TEST(WideSlotWorlds, EveryStepOfThreeWriters) {
    expect_exact(every_step());
}
TEST(WideSlotWorlds, WritersThatAbort) {
    expect_exact(with_aborts());
}
TEST(WideSlotWorlds, OneLongWriterAmongShortOnes) {
    expect_exact(one_long_writer());
}
TEST(WideSlotWorlds, AllAtOnce) {
    expect_exact(all_at_once());
}
TEST(WideSlotWorlds, OthersHoldXminBack) {
    expect_exact(with_bystanders());
    WideExplorer world(with_bystanders());
    world.explore_all(kMostStates);
    EXPECT_GT(world.held_back_hits, 100u);
}

// Room for one or two pending ids.
TEST(WideSlotWorlds, TooLittleRoom) {
    for (WideOptions options : {every_step(), all_at_once()})
        for (const unsigned ids : {1u, 2u}) {
            options.ids = ids;
            WideExplorer world(options);
            EXPECT_TRUE(world.explore_all(kMostStates)) << "violated " << world.violated << " states " << world.states;
            EXPECT_GT(world.hits, 100u);
        }
}

// As the wiring is: vouched for first, then built.
TEST(WideSlotWorlds, BuiltAfterTheStoreRule) {
    for (WideOptions options : {every_step(), one_long_writer(), with_bystanders()}) {
        options.early = true;
        expect_exact(options);
    }
}

TEST(WideSlotWorlds, ValuesFromOutside) {
    for (WideOptions options : {every_step(), with_bystanders()}) {
        options.put = true;
        expect_exact(options);
    }
}

TEST(WideSlotWorlds, RandomWalks) {
    std::mt19937_64 random(11);
    for (unsigned round = 0; round < 16; ++round) {
        WideExplorer world({.writers = 6,
                            .begun = round % 6,
                            .bystanders = static_cast<unsigned>(random() & random()) & 0b111111,
                            .ddl = static_cast<unsigned>(random()) & 0b111111,
                            .ids = 1 + round % 4,
                            .readers = 3,
                            .rounds = 6,
                            .aborts = true});
        EXPECT_TRUE(world.walk(random, 6000)) << round;
        EXPECT_GT(world.hits, 100u) << round;
    }
}

// Negative controls: without the rule, some order of steps gives a wrong answer and the explorer finds it.
void expect_caught(const WideOptions& options) {
    WideExplorer world(options);
    EXPECT_FALSE(world.explore_all(kMostStates));
    EXPECT_TRUE(world.violated);
}

TEST(WideSlotControls, PendingRuns) {
    RuleRemoved removed(Rule::kPendingRuns);
    expect_caught(every_step());
    expect_caught(one_long_writer());
}

TEST(WideSlotControls, EndedGeneration) {
    RuleRemoved removed(Rule::kEndedGeneration);
    expect_caught(every_step());
    expect_caught(one_long_writer());
}

TEST(WideSlotControls, EndedSeen) {
    RuleRemoved removed(Rule::kEndedSeen);
    expect_caught(every_step());
    expect_caught(with_bystanders());
}

TEST(WideSlotControls, StoreCheck) {
    RuleRemoved removed(Rule::kStoreCheck);
    expect_caught(every_step());
}

TEST(WideSlotControls, RunningForTheSnapshotIsNotRunningNow) {
    WideOptions options = every_step();
    options.now_is_old = true;
    expect_caught(options);
    options.ddl = 0;  // rows alone would be exact
    WideExplorer world(options);
    EXPECT_TRUE(world.explore_all(kMostStates));
}

TEST(WideSlotControls, MarkBeforeEnd) {
    WideOptions options = every_step();
    options.late_mark = true;
    expect_caught(options);
}

}  // namespace
