// Counters, striped so that a hot key scales: a backend counts in the stripe of its number, the view adds
// them up. With more backends than stripes a few share one, hence atomic adds; they are relaxed, since
// nothing is concluded from one counter about another. Counts survive the backend that made them and end with
// the server.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace prompt_cache::core {

enum class Counter : unsigned {
    kHitsMemory,
    kHitsBehind,  // of them: on an entry whose tag was marked since, by writers the snapshot does not see
    kHitsRedis,
    kHitsDatabase,
    kBuiltCalls,  // calls answered by a build
    kNotFound,    // calls that may not build and found nothing
    kBuilds,      // layers or values built for lookups
    kBuildMicros,
    kEvictions,
    kExpirations,
    kInvalidations,
    kBypasses,
    kErrors,
    kCount
};
inline constexpr unsigned kCounters = static_cast<unsigned>(Counter::kCount);
inline constexpr unsigned kStripes = 32;

struct alignas(64) CounterRowShared {
    std::atomic<std::uint64_t> count[kCounters];  // relaxed
};

struct StatisticsShared {
    CounterRowShared rows[kStripes];
    std::atomic<std::int64_t> reset_at;  // server's wall clock, microseconds

    void add(unsigned stripe, Counter counter, std::uint64_t n = 1) noexcept {
        rows[stripe % kStripes].count[static_cast<unsigned>(counter)].fetch_add(n, std::memory_order_relaxed);
    }
    std::uint64_t sum(Counter counter) const noexcept {
        std::uint64_t total = 0;
        for (const CounterRowShared& stripe : rows)
            total += stripe.count[static_cast<unsigned>(counter)].load(std::memory_order_relaxed);
        return total;
    }
    void reset(std::int64_t now) noexcept {
        for (CounterRowShared& stripe : rows)
            for (auto& counter : stripe.count) counter.store(0, std::memory_order_relaxed);
        reset_at.store(now, std::memory_order_relaxed);
    }
};
static_assert(sizeof(CounterRowShared) == 128 && sizeof(StatisticsShared) == (kStripes * 2 + 1) * 64);

}  // namespace prompt_cache::core
