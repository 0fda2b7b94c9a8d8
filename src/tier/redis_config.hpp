// What the settings of the Redis tier say, files included: read when first asked for after a reload.
#pragma once

#include "core/redis_url.hpp"
#include "pg/postgres.hpp"
#include "tier/seal.hpp"

namespace prompt_cache {

struct RedisConfig {
    bool on = false;
    const char* problem = "";  // why it is off although a URL is set
    core::RedisUrl url;
    char user[128] = {};
    char password[512] = {};
    SealKey key;
    TimestampTz loaded = 0;  // which reload it belongs to
};

const RedisConfig& redis_config() noexcept;

}  // namespace prompt_cache
