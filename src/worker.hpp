// Background workers: launcher.cpp and worker.cpp.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

// While preloading: the launcher starts with the server, or after recovery.
void register_launcher();

}  // namespace prompt_cache

// The server finds a worker's main function by its name.
#define PC_WORKER(name)                                                 \
    extern "C" __attribute__((visibility("default"))) void name(Datum); \
    void name([[maybe_unused]] Datum argument)
