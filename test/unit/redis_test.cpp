// The circuit breaker, and the forms of a URL.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/breaker.hpp"
#include "core/redis_url.hpp"

namespace {

using prompt_cache::core::BreakerShared;
using prompt_cache::core::parse_redis_url;
using prompt_cache::core::RedisUrl;

TEST(Breaker, OpensAfterFailuresInARow) {
    BreakerShared breaker{};
    for (std::uint32_t i = 1; i < BreakerShared::kThreshold; i++) EXPECT_FALSE(breaker.failed());
    breaker.succeeded();
    for (std::uint32_t i = 1; i < BreakerShared::kThreshold; i++) {
        EXPECT_TRUE(breaker.closed());
        EXPECT_FALSE(breaker.failed());
    }
    EXPECT_TRUE(breaker.failed()) << "the one that opens it";
    EXPECT_FALSE(breaker.closed());
    EXPECT_FALSE(breaker.failed()) << "is one";
}

TEST(Breaker, OnlyAProbeCloses) {
    BreakerShared breaker{};
    for (std::uint32_t i = 0; i < BreakerShared::kThreshold; i++) breaker.failed();
    breaker.succeeded();
    EXPECT_FALSE(breaker.closed()) << "a success that comes late";
    EXPECT_FALSE(breaker.probed(false));
    EXPECT_FALSE(breaker.closed());
    EXPECT_TRUE(breaker.probed(true));
    EXPECT_TRUE(breaker.closed());
    EXPECT_TRUE(breaker.failed()) << "on trial one failure is enough";
    EXPECT_TRUE(breaker.probed(true));
    breaker.succeeded();
    EXPECT_FALSE(breaker.failed()) << "one success ends the trial";
    EXPECT_TRUE(breaker.probed(false)) << "a bad probe opens it too";
    EXPECT_FALSE(breaker.closed());
}

TEST(Breaker, IsOpenedByOneOfManyThreads) {
    for (int round = 0; round < 200; round++) {
        BreakerShared breaker{};
        std::atomic<int> opened{0};
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; i++)
            threads.emplace_back([&] {
                for (int n = 0; n < 20; n++) opened += breaker.failed();
            });
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(opened, 1);
        EXPECT_FALSE(breaker.closed());
    }
}

TEST(RedisUrl, Forms) {
    RedisUrl url;
    EXPECT_EQ(parse_redis_url("redis://cache.example:6380/3", url), nullptr);
    EXPECT_EQ(url.transport, RedisUrl::Transport::kTcp);
    EXPECT_STREQ(url.host, "cache.example");
    EXPECT_EQ(url.port, 6380);
    EXPECT_EQ(url.database, 3u);
    EXPECT_EQ(parse_redis_url("redis://10.0.0.1", url), nullptr);
    EXPECT_EQ(url.port, 6379);
    EXPECT_EQ(url.database, 0u);
    EXPECT_EQ(parse_redis_url("redis://10.0.0.1/", url), nullptr);
    EXPECT_EQ(parse_redis_url("redis://[::1]:6380/1", url), nullptr);
    EXPECT_STREQ(url.host, "::1");
    EXPECT_EQ(url.port, 6380);
    EXPECT_EQ(parse_redis_url("rediss://cache.example", url), nullptr);
    EXPECT_EQ(url.transport, RedisUrl::Transport::kTls);
    EXPECT_EQ(parse_redis_url("unix:///run/redis/redis.sock", url), nullptr);
    EXPECT_EQ(url.transport, RedisUrl::Transport::kUnix);
    EXPECT_STREQ(url.path, "/run/redis/redis.sock");
    EXPECT_EQ(url.database, 0u);
    EXPECT_EQ(parse_redis_url("unix:///run/redis.sock?db=5", url), nullptr);
    EXPECT_STREQ(url.path, "/run/redis.sock");
    EXPECT_EQ(url.database, 5u);
}

TEST(RedisUrl, Refused) {
    RedisUrl url;
    for (const std::string text : {"",
                                   "cache.example:6379",
                                   "http://cache.example",
                                   "redis:/x",
                                   "REDIS://x",
                                   "redis://",
                                   "redis:///0",
                                   "redis://:6379",
                                   "redis://host:0",
                                   "redis://host:65536",
                                   "redis://host:",
                                   "redis://host:6379x",
                                   "redis://host/x",
                                   "redis://host/-1",
                                   "redis://host/16385",
                                   "redis://host/0/1",
                                   "redis://user:pw@host",
                                   "redis://host name",
                                   "redis://host;x",
                                   "redis://[::1",
                                   "redis://[]:1",
                                   "redis://[::1]6379",
                                   "unix://x",
                                   "unix:///x?database=1",
                                   "unix:///x?db=",
                                   "unix:///x?db=a"})
        EXPECT_NE(parse_redis_url(text, url), nullptr) << text;
    EXPECT_NE(parse_redis_url(std::string_view("redis://a\0b", 11), url), nullptr);
    EXPECT_EQ(parse_redis_url("unix:///" + std::string(106, 'p'), url), nullptr);
    EXPECT_NE(parse_redis_url("unix:///" + std::string(107, 'p'), url), nullptr);
    EXPECT_EQ(parse_redis_url("redis://" + std::string(255, 'h'), url), nullptr);
    EXPECT_NE(parse_redis_url("redis://" + std::string(256, 'h'), url), nullptr);
}

}  // namespace
