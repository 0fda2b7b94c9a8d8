// The launcher starts a worker (worker.cpp) for each database in which there is something to do
// (cache/saving.hpp). It is connected to no database, so it is in nobody's way.
//
// A worker for prompts that were just noted is started at once and waits by itself until they are due: a
// server that shuts down starts no process any more, so whoever is to write what is pending must be there
// already. As long as it waits it is connected to no database either. Half of max_worker_processes may wait
// like that; workers of further databases are started when they are due.
#include "cache/memory.hpp"
#include "cache/saving.hpp"
#include "pg/postgres.hpp"
#include "process.hpp"
#include "worker.hpp"

extern "C" {
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
}

namespace prompt_cache {

namespace {

constexpr std::int64_t kSecond = 1000000;
constexpr std::int64_t kRetry = 10 * kSecond;  // after a worker that ended with an error
constexpr std::int64_t kLook = 60 * kSecond;   // at the latest

// Twice as long after each failure in a row, ten minutes at the most; a second for a worker to come up, or
// after one that met a lock.
std::int64_t may_start_at(const SavingDatabaseShared& database) noexcept {
    if (database.started == 0) return 0;
    if (database.failures == 0) return database.started + kSecond;
    return database.started + std::min(kRetry << std::min(database.failures - 1, 6u), 600 * kSecond);
}

void start_worker(Oid database) {
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_main_arg = ObjectIdGetDatum(database);
    strlcpy(worker.bgw_name, psprintf("prompt_cache worker of database %u", database), BGW_MAXLEN);
    strlcpy(worker.bgw_type, "prompt_cache worker", BGW_MAXLEN);
    strlcpy(worker.bgw_library_name, "prompt_cache", BGW_MAXLEN);
    strlcpy(worker.bgw_function_name, "pc_worker_main", BGW_MAXLEN);
    BackgroundWorkerHandle* handle = nullptr;
    const bool registered = RegisterDynamicBackgroundWorker(&worker, &handle);

    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    bool newly_refused = false;
    if (SavingDatabaseShared* entry = saving::find(database)) {
        newly_refused = !registered && !entry->refused;
        entry->refused = !registered;
    }
    LWLockRelease(shared.saving_lock);
    if (newly_refused)
        ereport(LOG,
                (errmsg("prompt_cache: no background worker slot is free: prompts are not saved for now"),
                 errhint("Raise max_worker_processes.")));
}

// Starts what is to be started; returns when to look again if nobody wakes the launcher before.
std::int64_t start_workers() {
    Oid chosen[SavingShared::kDatabases];
    std::size_t count = 0;
    const std::int64_t now = memory::now();
    std::int64_t next = now + kLook;
    int waiting = 0;
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    for (const SavingDatabaseShared& database : shared.saving->databases)
        waiting += database.worker != 0 && !database.working;
    for (SavingDatabaseShared& database : shared.saving->databases) {
        if (database.oid == InvalidOid || database.worker != 0) continue;
        std::int64_t at = saving::due(database);
        const bool may_wait = waiting < std::max(max_worker_processes / 2, 1);
        if (at > now && database.wanted && may_wait) {
            at = now;
            waiting++;
        }
        at = std::max(at, may_start_at(database));
        if (at <= now) {
            chosen[count++] = database.oid;
            database.started = now;
            at = may_start_at(database);
        }
        next = std::min(next, at);
    }
    LWLockRelease(shared.saving_lock);
    for (std::size_t i = 0; i < count; i++) start_worker(chosen[i]);
    return next;
}

void launcher_exits(int, Datum) {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    shared.saving->launcher = 0;
    shared.saving->stopping = ShutdownRequestPending;
    LWLockRelease(shared.saving_lock);
}

}  // namespace

PC_WORKER(pc_launcher_main) {
    begin_process();
    before_shmem_exit(launcher_exits, static_cast<Datum>(0));
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    shared.saving->launcher = MyProcPid;
    shared.saving->launcher_proc = backend_number();
    shared.saving->stopping = false;
    LWLockRelease(shared.saving_lock);
    MemoryContext scratch =
        AllocSetContextCreate(TopMemoryContext, "prompt_cache launcher", ALLOCSET_SMALL_SIZES);
    for (;;) {
        MemoryContextReset(scratch);
        MemoryContextSwitchTo(scratch);
        CHECK_FOR_INTERRUPTS();
        if (ShutdownRequestPending) proc_exit(1);  // by hand: the postmaster starts another one
        reload_if_asked();
        const std::int64_t next = start_workers();
        const std::int64_t left = std::max<std::int64_t>(next - memory::now(), 0) / 1000 + 1;
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, static_cast<long>(left),
                  launcher_wait_event());
        ResetLatch(MyLatch);
    }
}

void register_launcher() {
    register_process("prompt_cache launcher", "pc_launcher_main", BgWorkerStart_RecoveryFinished);
}

}  // namespace prompt_cache
