// What all backends of a server share about Redis: the breaker, where it is, what has happened, and the
// changes that are still to be published. Lies in the block of cache/shared.hpp; null where the library was
// not preloaded, and then the tier is off.
#pragma once

#include "core/breaker.hpp"
#include "pg/postgres.hpp"

namespace prompt_cache {

// What health() shows, counted since the server's start.
enum class RedisCount : unsigned {
    kFound,    // values that were there and authentic
    kMissing,  // there was none
    kStored,
    kConnected,  // connections opened
    // Exchanges that failed
    kNoConnection,
    kTimeout,
    kClosed,
    kProtocol,
    kError,  // Redis answered with an error
    // Values that were there and refused
    kForm,
    kVersion,
    kOtherKey,
    kBroken,
    kOtherEntry,
    kExpired,
    kEncoding,
    kStale,
    kCount
};
inline constexpr unsigned kRedisCounts = static_cast<unsigned>(RedisCount::kCount);

// One database's channel outside.
struct FeedScopeShared {
    Oid database;
    std::int64_t incarnation;
};

// A tag that a transaction has marked (tier/feed.hpp).
struct FeedMarkShared {
    std::uint64_t xid;
    std::uint64_t tag;
    FeedScopeShared scope;
};

struct FeedShared {
    static constexpr std::uint32_t kMarks = 4096;  // what one transaction leaves at most
    static constexpr std::uint32_t kScopes = 64;

    std::atomic<bool> wanted;  // somebody publishes; pairs with the lock of his first look at who is running
    std::uint64_t marked;      // marks ever made, the last kMarks are there; the lock `redis`, as all below
    FeedMarkShared marks[kMarks];
    std::uint32_t scope_count;
    FeedScopeShared scopes[kScopes];
};

struct RedisShared {
    static constexpr std::size_t kErrorBytes = 128;
    static constexpr std::size_t kAddressBytes = 48;

    core::BreakerShared breaker;
    std::atomic<std::uint32_t> latency_micros;        // of exchanges, smoothed; relaxed
    std::atomic<std::uint64_t> counts[kRedisCounts];  // relaxed

    char last_error[kErrorBytes];  // printable ASCII; the lock `redis`, as all below
    char address[kAddressBytes];   // the host's, as the worker has resolved it
    std::uint64_t address_of;      // hash of the host, 0 = none
    int worker;                    // its process, 0 = none
    Latch* worker_latch;
    FeedShared feed;
};

struct RedisMemory {
    RedisShared* state = nullptr;
    LWLock* lock = nullptr;

    explicit operator bool() const noexcept { return state != nullptr; }
};
extern RedisMemory redis_memory;

inline void count(RedisCount what) noexcept {
    redis_memory.state->counts[static_cast<unsigned>(what)].fetch_add(1, std::memory_order_relaxed);
}

}  // namespace prompt_cache
