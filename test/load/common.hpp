// What all parts of the load share: options, time, random numbers, and the place where violations are
// collected.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace load {

using Id = std::int64_t;
using Nanos = std::int64_t;  // of the steady clock

inline Nanos now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

struct Options {
    std::string primary = "dbname=load";
    std::string standby;     // read here too, against the oracle alone
    int duration = 120;      // seconds
    std::int64_t reads = 0;  // go on until so many reads were checked, 0 = for the duration only
    int readers = 2;
    int writers = 2;
    int keys = 100;    // looked up by one statement
    int think = 4000;  // microseconds between two transactions of a writer
    std::uint64_t seed = 1;
    std::string mix;  // this kind of writer only
    bool partitioned = false;
    bool hits_required = true;  // fewer than half memory hits fail the run
    bool redis_required = false;  // fewer than one miss in five from Redis, on either server, fails it too
    bool large = true;          // a quarter of the users has 130 kB prompts, which a small cache must evict
};

// The keys of the schema. Every user and tenant has two keys, and is found under one of them at a time (or
// none): a rename moves the row from one to the other. Cascade users exist for DELETE CASCADE alone.
inline constexpr Id kUsers = 300;
inline constexpr Id kTenants = 40;
inline constexpr Id kUserOffset = 10000;
inline constexpr Id kTenantOffset = 1000;
inline constexpr Id kCascadeUser = 501;
inline constexpr Id kCascadeTenant = 51;
inline constexpr Id kCascades = 10;  // tenants of two users each

// splitmix64: small, and a run can be told again by its seed.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
    std::uint64_t next() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    std::int64_t below(std::int64_t n) {
        return static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(n));
    }
    bool percent(int n) { return below(100) < n; }

  private:
    std::uint64_t state_;
};

// Violations by kind, the first few in full.
class Violations {
  public:
    void add(const std::string& kind, const std::string& text) {
        const std::lock_guard guard(mutex_);
        Kind& entry = kinds_[kind];
        entry.count++;
        if (entry.examples.size() < 5) entry.examples.push_back(text);
        total_.fetch_add(1);
    }
    std::int64_t total() const { return total_.load(); }
    void print() {
        const std::lock_guard guard(mutex_);
        for (const auto& [kind, entry] : kinds_) {
            std::printf("VIOLATION %s: %lld\n", kind.c_str(), static_cast<long long>(entry.count));
            for (const std::string& text : entry.examples) std::printf("    %s\n", text.c_str());
        }
    }

  private:
    struct Kind {
        std::int64_t count = 0;
        std::vector<std::string> examples;
    };
    std::mutex mutex_;
    std::map<std::string, Kind> kinds_;
    std::atomic<std::int64_t> total_ = 0;
};

// Reads compared with the oracle, by the source of the answer. Relaxed.
struct Sources {
    std::atomic<std::int64_t> reads = 0;
    std::atomic<std::int64_t> memory = 0;
    std::atomic<std::int64_t> redis = 0;
    std::atomic<std::int64_t> database = 0;
    std::atomic<std::int64_t> built = 0;
    std::atomic<std::int64_t> by_build = 0;  // of `reads`, compared with prompt_cache.build() too
};

// Counters of the whole run.
struct Tally {
    Sources primary;
    Sources standby;
    std::atomic<std::int64_t> commits = 0;
    std::atomic<std::int64_t> rollbacks = 0;  // wanted or not
    std::atomic<std::int64_t> unknown = 0;    // the connection was lost at COMMIT
    std::atomic<std::int64_t> second_calls = 0;
    std::atomic<std::int64_t> second_memory = 0;
    std::atomic<std::int64_t> reconnects = 0;
};

}  // namespace load
