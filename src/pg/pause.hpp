// Pause points: places where a test stops a backend to let another one in between two steps of the protocol.
//
// A backend whose setting prompt_cache.pause_at names the point waits there for the advisory lock of the
// point's number, which the test holds in another session. Exists in test builds only.
#pragma once

#ifdef PROMPT_CACHE_TEST
namespace prompt_cache {
void pause_at(const char* point);
}
#define PC_PAUSE(point) ::prompt_cache::pause_at(point)
#else
#define PC_PAUSE(point) static_cast<void>(0)
#endif
