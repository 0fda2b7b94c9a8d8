#include "pg/settings.hpp"

#include <climits>

#include "core/redis_url.hpp"
#include "core/rules.hpp"

namespace prompt_cache::settings {

bool memory = true;
bool database = true;
int memory_size = 64 * 1024;
int slots = 65536;
int memory_ttl = 3600;
int max_value_size = 1024;
int build_wait = 1000;
int persist_naptime = 1000;
int history = 3;
int history_max_age = 30 * 24 * 3600;
int warm_share = 50;
bool log_lookups = false;
char* redis_url = nullptr;
char* redis_auth_file = nullptr;
char* redis_key_file = nullptr;
int redis_timeout = 50;
int redis_ttl = 30 * 60;

namespace {

// A URL that is refused leaves the setting as it was, as with every setting of the server.
bool check_redis_url(char** value, void**, GucSource) {
    if (**value == '\0') return true;
    core::RedisUrl url;
    if (const char* problem = core::parse_redis_url(*value, url)) {
        GUC_check_errdetail("Not the URL of a Redis: %s.", problem);
        GUC_check_errhint("redis://host:6379/0, rediss://host:6379/0 (TLS) or unix:///path?db=0");
        return false;
    }
#ifndef PROMPT_CACHE_TLS
    if (url.transport == core::RedisUrl::Transport::kTls) {
        GUC_check_errdetail("This build of prompt_cache has no TLS.");
        GUC_check_errhint(
            "Build it with hiredis 1.1 or newer and its hiredis_ssl, or use redis:// or unix://.");
        return false;
    }
#endif
    return true;
}

// Settings of the Redis tier.
void define_redis() {
    DefineCustomStringVariable("prompt_cache.redis_url", "Where Redis is; empty turns the tier off.",
                               "redis://host:6379/0, rediss://host:6379/0 or unix:///path?db=0.", &redis_url,
                               "", PGC_SIGHUP, 0, check_redis_url, nullptr, nullptr);
    DefineCustomStringVariable("prompt_cache.redis_auth_file", "File with user:password for Redis.",
                               "Of mode 0600; read again at each reload.", &redis_auth_file, "", PGC_SIGHUP,
                               GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
    DefineCustomStringVariable("prompt_cache.redis_key_file",
                               "File with the 32-byte key that encrypts and authenticates values in Redis.",
                               "Of mode 0600; read again at each reload.", &redis_key_file, "", PGC_SIGHUP,
                               GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("prompt_cache.redis_timeout", "How long a lookup waits for Redis, in all.",
                            nullptr, &redis_timeout, 50, 1, 10 * 1000, PGC_SIGHUP, GUC_UNIT_MS, nullptr,
                            nullptr, nullptr);
    DefineCustomIntVariable("prompt_cache.redis_ttl", "Lifetime of values in Redis.", nullptr, &redis_ttl,
                            30 * 60, 1, 365 * 24 * 3600, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
}

}  // namespace

#ifdef PROMPT_CACHE_TEST
bool one_hash = false;
int hash_secret = -1;
char* pause_at = nullptr;

namespace {

int without_rules = 0;

void assign_without_rules(int value, void*) {
    core::removed_rules = static_cast<std::uint32_t>(value);
}

}  // namespace
#endif

void define(bool preloading) {
    DefineCustomBoolVariable("prompt_cache.memory", "Reads the memory tier.",
                             "Writers leave their marks whatever this says.", &memory, true, PGC_USERSET, 0,
                             nullptr, nullptr, nullptr);
    DefineCustomBoolVariable("prompt_cache.database", "Reads the table user_prompt_cache.",
                             "Writers leave their stamps whatever this says.", &database, true, PGC_USERSET,
                             0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("prompt_cache.memory_ttl", "Longest age of an entry in memory; 0 means no limit.",
                            nullptr, &memory_ttl, 3600, 0, INT_MAX / 1000, PGC_SIGHUP, GUC_UNIT_S, nullptr,
                            nullptr, nullptr);
    DefineCustomIntVariable("prompt_cache.max_value_size", "Larger values are returned but not cached.",
                            nullptr, &max_value_size, 1024, 1, 1024 * 1024, PGC_SIGHUP, GUC_UNIT_KB, nullptr,
                            nullptr, nullptr);
    DefineCustomIntVariable("prompt_cache.build_wait",
                            "How long to wait for a build of the same entry that is under way.",
                            "0 means that everybody builds for himself.", &build_wait, 1000, 0, INT_MAX,
                            PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("prompt_cache.persist_naptime", "How often new prompts are written to the table.",
                            nullptr, &persist_naptime, 1000, 10, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, nullptr,
                            nullptr, nullptr);
    DefineCustomIntVariable("prompt_cache.history", "Rows of user_prompt_cache kept for each user.", nullptr,
                            &history, 3, 1, INT_MAX, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("prompt_cache.history_max_age",
                            "Age at which replaced rows of user_prompt_cache are deleted.", nullptr,
                            &history_max_age, 30 * 24 * 3600, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, nullptr,
                            nullptr, nullptr);
    DefineCustomIntVariable("prompt_cache.warm_share",
                            "Percent of the memory tier to fill again after a restart.", "0 turns it off.",
                            &warm_share, 50, 0, 100, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomBoolVariable("prompt_cache.log_lookups", "Logs each lookup: tier, key and microseconds.",
                             nullptr, &log_lookups, false, PGC_SUSET, 0, nullptr, nullptr, nullptr);
    define_redis();
#ifdef PROMPT_CACHE_TEST
    DefineCustomIntVariable("prompt_cache.without_rules",
                            "Test builds only: rules of the protocol to leave out.", "A sum of 1 << rule.",
                            &without_rules, 0, 0, INT_MAX, PGC_SIGHUP, GUC_NOT_IN_SAMPLE, nullptr,
                            assign_without_rules, nullptr);
    DefineCustomBoolVariable("prompt_cache.one_hash", "Test builds only: all keys have the same hash.",
                             nullptr, &one_hash, false, PGC_SIGHUP, GUC_NOT_IN_SAMPLE, nullptr, nullptr,
                             nullptr);
    DefineCustomStringVariable("prompt_cache.pause_at", "Test builds only: where this backend waits.",
                               nullptr, &pause_at, "", PGC_USERSET, GUC_NOT_IN_SAMPLE, nullptr, nullptr,
                               nullptr);
#endif
    if (!preloading) return;
    DefineCustomIntVariable("prompt_cache.memory_size", "Size of the memory tier, book-keeping included.",
                            nullptr, &memory_size, 64 * 1024, 8 * 1024, INT_MAX, PGC_POSTMASTER, GUC_UNIT_KB,
                            nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "prompt_cache.slots", "Number of invalidation slots in the memory tier.",
        "64 bytes each, rounded up to a power of two; more slots mean fewer needless misses.", &slots, 65536,
        1024, 16 * 1024 * 1024, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
#ifdef PROMPT_CACHE_TEST
    DefineCustomIntVariable("prompt_cache.hash_secret",
                            "Test builds only: what seeds the hashes of shared memory.", "-1 means a random number.",
                            &hash_secret, -1, -1, INT_MAX, PGC_POSTMASTER, GUC_NOT_IN_SAMPLE, nullptr, nullptr,
                            nullptr);
#endif
    MarkGUCPrefixReserved("prompt_cache");
}

}  // namespace prompt_cache::settings
