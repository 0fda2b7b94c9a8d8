// Background workers: launcher.cpp and worker.cpp.
#pragma once

namespace prompt_cache {

// While preloading: the launcher starts with the server, or after recovery.
void register_launcher();

}  // namespace prompt_cache
