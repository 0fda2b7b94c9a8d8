// Where Redis is: redis://host:port/database, rediss:// for TLS, unix:///path?db=database.
//
// User and password are refused here: the setting is visible to everybody who may see settings.
#pragma once

#include <cstdint>
#include <string_view>

namespace prompt_cache::core {

struct RedisUrl {
    enum class Transport : std::uint8_t { kTcp, kTls, kUnix };

    static constexpr std::size_t kMaxHost = 255;
    static constexpr std::size_t kMaxPath = 107;  // what a socket's address has room for

    Transport transport = Transport::kTcp;
    std::uint16_t port = 6379;
    std::uint32_t database = 0;
    char host[kMaxHost + 1] = {};  // without the brackets of an IPv6 address
    char path[kMaxPath + 1] = {};
};

// Nothing on success, else what is wrong. An empty text is not a URL.
const char* parse_redis_url(std::string_view text, RedisUrl& url) noexcept;

}  // namespace prompt_cache::core
