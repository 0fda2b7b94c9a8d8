// The background worker of the Redis tier; see redis_worker.cpp.
#pragma once

namespace prompt_cache {

// While preloading: it starts with the server, in recovery too.
void register_redis_worker();

}  // namespace prompt_cache
