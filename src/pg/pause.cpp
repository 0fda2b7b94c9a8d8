#include "pg/pause.hpp"

#ifdef PROMPT_CACHE_TEST

#include "pg/postgres.hpp"
#include "pg/settings.hpp"

namespace prompt_cache {

namespace {
// The advisory lock a test takes to hold backends at their pause point: SELECT pg_advisory_lock(7061757365).
constexpr std::int64_t kPauseLock = 7061757365;
}  // namespace

void pause_at(const char* point) {
    if (strcmp(settings::pause_at, point) != 0) return;
    DirectFunctionCall1(pg_advisory_lock_int8, Int64GetDatum(kPauseLock));
    DirectFunctionCall1(pg_advisory_unlock_int8, Int64GetDatum(kPauseLock));
}

}  // namespace prompt_cache

#endif
