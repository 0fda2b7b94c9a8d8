// The eviction order against simple models: accounts, order, bounds, memory of what went, and hit counts.
#include "../../src/core/eviction.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <vector>

namespace prompt_cache::core {
namespace {

// An arena of entries larger than their nodes, as in the server.
class Arena {
  public:
    static constexpr std::size_t kStride = 64;

    explicit Arena(std::uint32_t entries, std::uint32_t ghosts = 4096)
        : memory_(entries * kStride / sizeof(std::uint64_t), 0), uses_(entries), ghosts_(ghosts) {
        Eviction::init(*state_, 0);
    }
    Eviction order() {
        return {*state_,      memory_.data(), kStride,
                uses_.data(), ghosts_.data(), static_cast<std::uint32_t>(ghosts_.size())};
    }
    EvictionNodeShared& node(std::uint32_t index) {
        return *reinterpret_cast<EvictionNodeShared*>(reinterpret_cast<char*>(memory_.data()) +
                                                      index * kStride);
    }
    EvictionShared& state() { return *state_; }
    void touch(std::uint32_t index) { Eviction::touch(*state_, use(index)); }
    EvictionUseShared& use(std::uint32_t index) { return uses_[index]; }
    bool resident(std::uint32_t index) { return node(index).queue != 0; }

  private:
    std::vector<std::uint64_t> memory_;
    std::vector<EvictionUseShared> uses_;
    std::vector<EvictionGhostShared> ghosts_;
    std::unique_ptr<EvictionShared> state_ = std::make_unique<EvictionShared>();
};

// The same numbers on every machine.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint32_t below(std::uint32_t bound) {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        return static_cast<std::uint32_t>((state_ >> 33) % bound);
    }

  private:
    std::uint64_t state_;
};

std::uint64_t hash_of(std::uint64_t key) {
    key = (key + 1) * 0x9e3779b97f4a7c15U;
    key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9U;
    return key ^ (key >> 31);
}

// One request of a plain cache, keys being indices.
bool request(Arena& arena, std::uint32_t key, std::uint64_t capacity, std::uint32_t size = 1) {
    if (arena.resident(key)) {
        arena.touch(key);
        return true;
    }
    Eviction order = arena.order();
    if (order.bytes() + size > capacity && !order.admissible(hash_of(key), size)) return false;
    while (order.bytes() + size > capacity) order.evict(order.victim(nullptr, nullptr));
    order.admit(key, hash_of(key), size);
    return false;
}

void fill(Eviction& order, std::uint32_t count, std::uint32_t size = 1) {
    for (std::uint32_t i = 0; i < count; i++) order.admit(i, hash_of(i), size);
}

// New keys come through; one goes for each.
void scan(Eviction& order, std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t i = from; i < to; i++) {
        order.evict(order.victim(nullptr, nullptr));
        order.admit(i, hash_of(i), 1);
    }
}

struct Dead {
    std::vector<bool> dead;
    int asked = 0;
    static bool ask(void* context, std::uint32_t index) noexcept {
        auto* self = static_cast<Dead*>(context);
        self->asked++;
        return self->dead[index];
    }
};

TEST(Eviction, UntouchedEntriesGoInTheOrderTheyCame) {
    Arena arena(100);
    Eviction order = arena.order();
    fill(order, 100);
    for (std::uint32_t i = 0; i < 100; i++) {
        ASSERT_EQ(order.victim(nullptr, nullptr), i);
        order.evict(i);
    }
    EXPECT_EQ(order.victim(nullptr, nullptr), kNoNode);
}

TEST(Eviction, AccountsAndListsAgreeWithAModelAfterRandomCalls) {
    constexpr std::uint32_t kEntries = 3000;
    for (const std::uint32_t range : {7U, 300U, kEntries}) {
        Arena arena(kEntries, 2048);
        Eviction order = arena.order();
        std::map<std::uint32_t, std::uint32_t> model;
        std::uint64_t bytes = 0;
        Random random(range);
        for (int step = 0; step < 60000; step++) {
            const std::uint32_t index = random.below(range);
            const std::uint32_t what = random.below(100);
            const bool resident = model.contains(index);
            if (resident && what < 50) {
                arena.touch(index);
            } else if (resident && what < 55) {
                order.remove(index);
                bytes -= model[index];
                model.erase(index);
            } else if (resident && what < 60) {
                const std::uint32_t to = random.below(range);
                if (model.contains(to)) continue;
                const std::uint32_t size = random.below(5000);
                order.replace(index, to, size);
                bytes = bytes - model[index] + size;
                model.erase(index);
                model[to] = size;
            } else if (!resident && what < 80) {
                const std::uint32_t size = random.below(5000);
                order.admit(index, hash_of(index), size);
                model[index] = size;
                bytes += size;
            } else if (what >= 90) {
                const std::uint32_t victim = order.victim(nullptr, nullptr);
                ASSERT_EQ(victim == kNoNode, model.empty());
                if (victim == kNoNode) continue;
                ASSERT_TRUE(model.contains(victim));
                order.evict(victim);
                bytes -= model[victim];
                model.erase(victim);
            }
            ASSERT_EQ(order.entries(), model.size());
            ASSERT_EQ(order.bytes(), bytes);
            ASSERT_TRUE(step % 500 != 0 || order.consistent()) << "step " << step;
        }
        for (const auto& [index, size] : model) order.remove(index);
        EXPECT_EQ(order.entries(), 0U);
        EXPECT_EQ(order.bytes(), 0U);
        EXPECT_EQ(order.victim(nullptr, nullptr), kNoNode);
        EXPECT_TRUE(order.consistent());
    }
}

TEST(Eviction, ConsistentSeesABrokenLinkAndAWrongAccount) {
    Arena arena(10);
    Eviction order = arena.order();
    fill(order, 10, 5);
    ASSERT_TRUE(order.consistent());
    arena.node(4).size++;
    EXPECT_FALSE(order.consistent());
    arena.node(4).size--;
    const std::uint32_t older = arena.node(4).older;
    arena.node(4).older = 7;
    EXPECT_FALSE(order.consistent());
    arena.node(4).older = older;
    EXPECT_TRUE(order.consistent());
}

TEST(Eviction, AHitWritesOneByteAndOnlyWhenItChanges) {
    Arena arena(1);
    arena.order().admit(0, 1, 1);
    EvictionNodeShared& node = arena.node(0);
    unsigned char before[sizeof(EvictionNodeShared)];
    std::memcpy(before, static_cast<void*>(&node), sizeof(before));
    std::uint8_t last = arena.use(0).load();
    for (int hit = 1; hit <= 10; hit++) {
        arena.touch(0);
        const std::uint8_t now = arena.use(0).load();
        EXPECT_EQ(now & 3, hit < 3 ? hit : 3) << "hit " << hit;
        EXPECT_EQ(now != last, hit <= 3) << "hit " << hit;
        last = now;
    }
    unsigned char after[sizeof(EvictionNodeShared)];
    std::memcpy(after, static_cast<void*>(&node), sizeof(after));
    int changed = 0;
    for (std::size_t i = 0; i < sizeof(before); i++) changed += before[i] != after[i];
    EXPECT_EQ(changed, 0) << "a hit writes nothing but its byte";
}

TEST(Eviction, TheHottestWasHitLatestThenMostOften) {
    Arena arena(64);
    Eviction order = arena.order();
    const auto heat = [&](std::uint32_t index) { return Eviction::heat(arena.state(), arena.use(index)); };
    for (std::uint32_t index = 0; index < 4; index++) order.admit(index, index, 1);
    EXPECT_EQ(heat(0), 0u);
    arena.touch(1);
    for (int i = 0; i < 3; i++) arena.touch(2);
    EXPECT_GT(heat(2), heat(1));
    EXPECT_GT(heat(1), heat(0));
    // Others come until an epoch has gone by; one hit now is worth more than three then.
    const std::uint32_t before = arena.state().epoch;
    for (std::uint32_t index = 4; index < 64 && arena.state().epoch == before; index++)
        order.admit(index, index, 1);
    ASSERT_GT(arena.state().epoch, before);
    arena.touch(3);
    EXPECT_GT(heat(3), heat(2));
    EXPECT_GT(heat(2), heat(1));
    EXPECT_GT(heat(1), heat(0));
}

TEST(Eviction, OneLookIsBoundedEvenWhenEverythingWasHit) {
    constexpr std::uint32_t kEntries = 1000;
    Arena arena(kEntries);
    Eviction order = arena.order();
    fill(order, kEntries);
    for (int hit = 0; hit < 3; hit++)
        for (std::uint32_t i = 0; i < kEntries; i++) arena.touch(i);
    Dead dead;
    dead.dead.resize(kEntries, false);
    const std::uint32_t victim = order.victim(&Dead::ask, &dead);
    EXPECT_EQ(dead.asked, 30);
    ASSERT_NE(victim, kNoNode);
    EXPECT_TRUE(arena.resident(victim));
    EXPECT_TRUE(order.consistent());
}

TEST(Eviction, TheLeastHitOfThoseSeenGoesWhenTheBoundIsReached) {
    Arena arena(1000);
    Eviction order = arena.order();
    fill(order, 1000);
    for (std::uint32_t i = 0; i < 1000; i++)
        for (int hit = 0; hit < (i == 17 ? 1 : 3); hit++) arena.touch(i);
    EXPECT_EQ(order.victim(nullptr, nullptr), 17U);
}

TEST(Eviction, ADeadEntryGoesBeforeALivingOneThatIsNextInLine) {
    Arena arena(50);
    Eviction order = arena.order();
    fill(order, 50);
    for (std::uint32_t i = 0; i < 20; i++)
        for (int hit = 0; hit < 3; hit++) arena.touch(i);
    Dead dead;
    dead.dead.resize(50, false);
    dead.dead[9] = true;
    EXPECT_EQ(order.victim(&Dead::ask, &dead), 9U);
    EXPECT_EQ(dead.asked, 10);
    order.remove(9);
    dead.dead[9] = false;
    EXPECT_EQ(order.victim(&Dead::ask, &dead), 20U);
}

TEST(Eviction, AnEvictedKeyThatComesBackStaysLongerThanANewOne) {
    Arena arena(300);
    Eviction order = arena.order();
    fill(order, 100);
    ASSERT_EQ(order.victim(nullptr, nullptr), 0U);
    order.evict(0);
    order.admit(0, hash_of(0), 1);
    scan(order, 100, 250);
    EXPECT_TRUE(arena.resident(0));
    EXPECT_FALSE(arena.resident(99));
}

TEST(Eviction, UnderLruAnEntryGoesInTheOrderOfItsLastHit) {
    Arena arena(300);
    Eviction order = arena.order();
    arena.state().follows_lru = 1;
    for (std::uint32_t i = 0; i < 100; i++) {
        order.admit(i, hash_of(i), 1);
        if (i == 50) arena.touch(0);
    }
    std::vector<std::uint32_t> gone;
    for (int i = 0; i < 100; i++) {
        gone.push_back(order.victim(nullptr, nullptr));
        order.evict(gone.back());
    }
    const auto place = std::find(gone.begin(), gone.end(), 0U) - gone.begin();
    EXPECT_GE(place, 40);
    EXPECT_LE(place, 60);
    EXPECT_EQ(gone.front(), 1U);
    EXPECT_EQ(gone.back(), 99U);
}

TEST(Eviction, NoHitIsSeenWhereThereWasNone) {
    Arena arena(2000);
    Eviction order = arena.order();
    fill(order, 100);
    order.evict(order.victim(nullptr, nullptr));
    order.admit(0, hash_of(0), 1);
    for (std::uint32_t i = 100; i < 2000; i++) {
        order.evict(order.victim(nullptr, nullptr));
        order.admit(i, hash_of(i), 1);
        ASSERT_EQ(arena.state().duel.lead, 0) << "after " << i;
    }
    EXPECT_TRUE(arena.resident(0)) << "must be there for its epoch to come round";
}

TEST(Eviction, ARemovedKeyIsNotRemembered) {
    Arena arena(300);
    Eviction order = arena.order();
    fill(order, 100);
    order.remove(0);
    order.admit(0, hash_of(0), 1);
    scan(order, 100, 250);
    EXPECT_FALSE(arena.resident(0));
}

TEST(Eviction, AGhostIsForgottenAfterAsManyEvictionsAsThereAreEntries) {
    for (const std::uint32_t later : {80U, 100U}) {
        Arena arena(600);
        Eviction order = arena.order();
        fill(order, 100);
        scan(order, 100, 100 + later);
        ASSERT_FALSE(arena.resident(0));
        order.evict(order.victim(nullptr, nullptr));
        order.admit(0, hash_of(0), 1);
        const bool in_main = arena.state().main_entries == 1;
        EXPECT_EQ(in_main, later == 80U);
    }
}

TEST(Eviction, AGhostIsForgottenByTheSizeOfWhatWentAfterIt) {
    for (const std::uint32_t size : {10U, 300U}) {
        Arena arena(200);
        Eviction order = arena.order();
        order.set_capacity(4000);
        order.admit(0, hash_of(0), 10);
        order.evict(0);
        for (std::uint32_t i = 1; i <= 13; i++) {
            order.admit(i, hash_of(i), size);
            order.evict(i);
        }
        order.admit(0, hash_of(0), 10);
        EXPECT_EQ(arena.state().main_entries, size == 10 ? 1U : 0U) << size;
    }
}

TEST(Eviction, StampsOfAWholeBeyondTheirBitsStillTellAges) {
    constexpr std::uint64_t kWhole = std::uint64_t{100} << 32;
    constexpr std::uint32_t kSize = std::uint32_t{1} << 31;
    for (const std::uint32_t others : {150U, 200U}) {
        Arena arena(300);
        Eviction order = arena.order();
        order.set_capacity(kWhole);
        for (std::uint32_t i = 0; i <= others; i++) {
            order.admit(i, hash_of(i), kSize);
            order.evict(i);
        }
        order.admit(0, hash_of(0), kSize);
        EXPECT_EQ(arena.state().main_entries, others == 150 ? 1U : 0U) << others;
    }
}

TEST(Eviction, AGhostKeepsItsAgeWhenTheRoomMoves) {
    constexpr std::uint32_t kSize = 1 << 15;
    Arena arena(400);
    Eviction order = arena.order();
    fill(order, 33, kSize);  // a little more than 2^20
    for (std::uint32_t i = 33; i < 133; i++) {
        order.evict(order.victim(nullptr, nullptr));
        order.admit(i, hash_of(i), kSize);
    }
    const std::uint32_t gone = order.victim(nullptr, nullptr);
    for (int i = 0; i < 13; i++) order.evict(order.victim(nullptr, nullptr));
    ASSERT_FALSE(arena.resident(gone));
    for (std::uint32_t i = 133; i < 136; i++) order.admit(i, hash_of(i), 1);  // an epoch, and the room is less
    ASSERT_LT(arena.state().room, 1U << 20);
    order.admit(gone, hash_of(gone), kSize);
    EXPECT_EQ(arena.state().main_entries, 1U);
}

TEST(Eviction, NamespacesThatShareGhostsDoNotMeet) {
    std::vector<EvictionUseShared> uses(64);
    std::vector<EvictionGhostShared> ghosts(1024);
    std::vector<EvictionNodeShared> nodes(20);
    auto first = std::make_unique<EvictionShared>();
    auto second = std::make_unique<EvictionShared>();
    Eviction::init(*first, 1);
    Eviction::init(*second, 2);
    Eviction a(*first, nodes.data(), sizeof(nodes[0]), uses.data(), ghosts.data(), 1024);
    Eviction b(*second, nodes.data(), sizeof(nodes[0]), uses.data(), ghosts.data(), 1024);
    for (std::uint32_t i = 0; i < 10; i++) a.admit(i, hash_of(i), 1);
    for (std::uint32_t i = 10; i < 19; i++) b.admit(i, hash_of(i), 1);
    a.evict(a.victim(nullptr, nullptr));
    b.admit(19, hash_of(0), 1);
    EXPECT_EQ(second->main_entries, 0U) << "found the other's ghost";
    a.admit(0, hash_of(0), 1);
    EXPECT_EQ(first->main_entries, 1U) << "did not find its own";
}

TEST(Eviction, WithoutGhostMemoryItStillWorks) {
    Arena arena(2000, 0);
    Random random(5);
    for (int i = 0; i < 20000; i++) request(arena, random.below(200), 100);
    EXPECT_TRUE(arena.order().consistent());
}

TEST(Eviction, AReplacedEntryKeepsItsPlaceAndItsHits) {
    Arena arena(10);
    Eviction order = arena.order();
    fill(order, 5, 10);
    arena.touch(1);
    order.replace(0, 7, 30);
    order.replace(1, 8, 10);
    EXPECT_FALSE(arena.resident(0));
    EXPECT_EQ(order.bytes(), 70U);
    EXPECT_EQ(order.entries(), 5U);
    EXPECT_TRUE(order.consistent());
    ASSERT_EQ(order.victim(nullptr, nullptr), 7U);
    order.evict(7);
    EXPECT_EQ(order.victim(nullptr, nullptr), 2U) << "8 has the hit of 1";
}

TEST(Eviction, WhatWouldFillTheSmallQueueAloneIsRefusedUnderS3FifoOnly) {
    Arena arena(100);
    Eviction order = arena.order();
    fill(order, 40, 100);
    ASSERT_FALSE(arena.state().follows_lru);
    EXPECT_TRUE(order.admissible(hash_of(50), 1000));
    EXPECT_FALSE(order.admissible(hash_of(50), 1001));
    arena.state().follows_lru = 1;
    EXPECT_TRUE(order.admissible(hash_of(50), 1001));
    order.admit(50, hash_of(50), 3900);
    EXPECT_EQ(order.bytes(), 7900U);
}

TEST(Eviction, ACapacityThatIsToldCountsAndOneThatIsNotIsForgottenInTime) {
    Arena arena(1000);
    Eviction order = arena.order();
    fill(order, 40, 100);
    order.set_capacity(10000);
    EXPECT_TRUE(order.admissible(hash_of(900), 2500));
    EXPECT_FALSE(order.admissible(hash_of(900), 2501));
    for (std::uint32_t i = 40; i < 60; i++) order.admit(i, hash_of(i), 100);
    EXPECT_TRUE(order.admissible(hash_of(900), 2500));
    order.set_capacity(0);
    for (std::uint32_t i = 60; i < 400; i++) {
        while (order.bytes() > 3900) order.evict(order.victim(nullptr, nullptr));
        order.admit(i, hash_of(i), 100);
    }
    EXPECT_TRUE(order.admissible(hash_of(900), 1000));
    EXPECT_FALSE(order.admissible(hash_of(900), 1001));
}

// Requests that only recency serves: everything is asked for twice, 80 requests apart, then never again.
std::vector<std::uint32_t> twice_trace(std::uint32_t requests) {
    std::vector<std::uint32_t> trace;
    for (std::uint32_t key = 0; trace.size() < requests; key++) {
        trace.push_back(key);
        if (key >= 40) trace.push_back(key - 40);
    }
    return trace;
}

// Skewed requests with a scan running through: frequency serves best.
std::vector<std::uint32_t> skewed_trace(std::uint32_t requests) {
    std::vector<std::uint32_t> trace;
    Random random(11);
    std::uint32_t scan = 2000;
    while (trace.size() < requests) {
        const std::uint32_t bound = 1 + random.below(2000);
        trace.push_back(random.below(1 + random.below(bound)));
        if (trace.size() % 2 == 0) trace.push_back(scan++);
    }
    return trace;
}

std::uint64_t exact_lru(const std::vector<std::uint32_t>& trace, std::size_t capacity) {
    std::deque<std::uint32_t> order;
    std::uint64_t hits = 0;
    for (const std::uint32_t key : trace) {
        const auto found = std::find(order.begin(), order.end(), key);
        if (found != order.end()) {
            hits++;
            order.erase(found);
        } else if (order.size() == capacity) {
            order.pop_front();
        }
        order.push_back(key);
    }
    return hits;
}

std::uint64_t hits_of(const std::vector<std::uint32_t>& trace, std::uint64_t capacity, Arena& arena) {
    std::uint64_t hits = 0;
    for (const std::uint32_t key : trace) hits += request(arena, key, capacity);
    EXPECT_TRUE(arena.order().consistent());
    return hits;
}

TEST(Eviction, FollowsLruWhereRecencyServesAndS3FifoWhereFrequencyDoes) {
    const auto recent = twice_trace(20000);
    const auto skewed = skewed_trace(40000);
    Arena arena(40000);
    EXPECT_GE(hits_of(recent, 100, arena) + recent.size() / 200, exact_lru(recent, 100));
    ASSERT_TRUE(arena.state().follows_lru);
    EXPECT_GE(hits_of(skewed, 100, arena), exact_lru(skewed, 100) + skewed.size() / 20);
    EXPECT_FALSE(arena.state().follows_lru);
}

// What an entry holds of the room, and hence pushes out, decides: while LRU lets in what is never asked for again
// and takes a third of the whole, S3-FIFO hits more, though it hits less of the small ones.
TEST(Eviction, WhatIsLargeCountsInASampleForWhatItPushesOut) {
    constexpr std::uint32_t kSmall = 10;
    constexpr std::uint64_t kCapacity = 40000;
    for (const bool with_large : {false, true}) {
        Arena arena(100000, 1 << 14);
        arena.order().set_capacity(kCapacity);
        Random random(5);
        for (std::uint32_t i = 0; i < 60000; i++) {
            request(arena, i / 6 + random.below(2400), kCapacity, kSmall);
            if (with_large && i % 200 == 0) request(arena, 50000 + i / 200, kCapacity, kCapacity / 3);
        }
        EXPECT_GE(arena.state().duel.shift, 1U);
        EXPECT_EQ(arena.state().follows_lru, with_large ? 0 : 1);
        EXPECT_TRUE(arena.order().consistent());
    }
}

TEST(Eviction, HitsBetweenTwoLooksCountAsOftenAsTheyAreKnown) {
    for (const std::uint32_t hits : {1U, 2U, 5U}) {
        Arena arena(200);
        Eviction order = arena.order();
        fill(order, 48);
        for (std::uint32_t i = 0; i < hits; i++) arena.touch(7);
        for (std::uint32_t i = 48; i < 60; i++) order.admit(i, hash_of(i), 1);
        const DuelQueueShared& small = arena.state().duel.small;
        const auto* end = small.keys + small.count;
        const auto* key = std::find_if(small.keys, end, [&](std::uint32_t it) { return (it & ~3U) == (arena.node(7).fingerprint & ~3U); });
        ASSERT_NE(key, end);
        EXPECT_EQ(*key & 3U, std::min(hits, 3U));
    }
}

TEST(Eviction, TheSampleStaysBoundedAsTheNamespaceGrowsAndShrinks) {
    constexpr std::uint32_t kEntries = 50000;
    Arena arena(kEntries, 1 << 16);
    Eviction order = arena.order();
    fill(order, kEntries);
    EXPECT_GE(arena.state().duel.shift, 6U);
    EXPECT_LE(arena.state().duel.watched_count, kDuelSlots);
    EXPECT_GE(arena.state().duel.watched_count, 200U);
    ASSERT_TRUE(order.consistent());
    for (std::uint32_t i = 0; i < kEntries - 100; i++) order.evict(order.victim(nullptr, nullptr));
    order.admit(0, hash_of(0), 1);
    EXPECT_EQ(arena.state().duel.shift, 0U);
    EXPECT_TRUE(order.consistent());
}

// Golden: a change of these numbers is a change of the policy and wants the whole of P11 measured again.
TEST(Eviction, GoldenHitCounts) {
    const struct {
        std::vector<std::uint32_t> trace;
        std::uint64_t capacity;
        std::uint64_t hits;
    } cases[] = {{twice_trace(20000), 100, 9939},
                 {skewed_trace(40000), 20, 2226},
                 {skewed_trace(40000), 100, 6539},
                 {skewed_trace(40000), 1000, 17047}};
    for (const auto& one : cases) {
        Arena arena(40000);
        EXPECT_EQ(hits_of(one.trace, one.capacity, arena), one.hits) << "capacity " << one.capacity;
    }
}

TEST(Eviction, HitsMayRaceWithEvictions) {
    Arena arena(2000);
    std::atomic<bool> stop = false;
    std::vector<std::thread> readers;
    for (int reader = 0; reader < 2; reader++)
        readers.emplace_back([&arena, &stop, reader] {
            Random random(static_cast<std::uint64_t>(reader));
            while (!stop.load()) arena.touch(random.below(2000));
        });
    Random random(9);
    for (int i = 0; i < 100000; i++) {
        const std::uint32_t key = random.below(2000);
        if (!arena.resident(key)) request(arena, key, 500);
    }
    stop.store(true);
    for (std::thread& reader : readers) reader.join();
    EXPECT_EQ(arena.order().entries(), 500U);
    EXPECT_TRUE(arena.order().consistent());
}

}  // namespace
}  // namespace prompt_cache::core
