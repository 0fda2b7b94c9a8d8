// What the extension's own processes have in common: how they are registered, begin, and hear of new settings.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "postmaster/bgworker.h"
}

namespace prompt_cache {

// While preloading: a process that the server starts from `when` on, and again five seconds after it has ended.
inline void register_process(const char* name, const char* function, BgWorkerStartTime when) {
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = when;
    worker.bgw_restart_time = 5;
    strlcpy(worker.bgw_name, name, BGW_MAXLEN);
    strlcpy(worker.bgw_type, name, BGW_MAXLEN);
    strlcpy(worker.bgw_library_name, "prompt_cache", BGW_MAXLEN);
    strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
    RegisterBackgroundWorker(&worker);
}

// The process is seen in pg_stat_activity and connected to no database, so it stands in nobody's way.
void begin_process();

// Reads the settings again if that was asked for; true if it was.
bool reload_if_asked();

}  // namespace prompt_cache

// The server finds a process's main function by its name.
#define PC_WORKER(name)                                                 \
    extern "C" __attribute__((visibility("default"))) void name(Datum); \
    void name([[maybe_unused]] Datum argument)
