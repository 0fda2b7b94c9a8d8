// Background workers: what was composed is written to the table, what a restart has cost is brought back.
//
//   launcher   no database connection, so it blocks no DROP, RENAME or TEMPLATE. Every persist_naptime it
//   starts a worker
//              for each database in which there is something to do (cache/saving.hpp).
//   worker     connects to one database, saves what was noted in batches of a transaction each, cleans up now
//   and then,
//              and ends: it never sleeps connected.
//
// Nothing depends on them but history and the speed after a restart. An error ends a worker and is in the
// log; the launcher starts the next one at the earliest after kRetry. A server in recovery has neither.
#include "cache/attachment.hpp"
#include "cache/lookup.hpp"
#include "cache/memory.hpp"
#include "cache/save.hpp"
#include "cache/saving.hpp"
#include "pg/catalog.hpp"
#include "pg/postgres.hpp"
#include "pg/query.hpp"
#include "pg/settings.hpp"
#include "worker.hpp"

extern "C" {
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
}

namespace prompt_cache {

namespace {

constexpr std::int64_t kSecond = 1000000;
constexpr std::int64_t kRetry = 10 * kSecond;  // after a worker that did not come up, or ended with an error
constexpr std::int64_t kClean = 30 * kSecond;  // between two rounds of housekeeping in a database
constexpr std::uint32_t kRoundsToPurge = 20;   // rounds of housekeeping to one search for users that are gone
constexpr std::uint32_t kBatch = 200;          // prompts a transaction

SavingDatabaseShared* find_database(Oid oid) noexcept {
    for (SavingDatabaseShared& database : shared.saving->databases)
        if (database.oid == oid) return &database;
    return nullptr;
}

// Twice as long after each failure in a row, ten minutes at the most. A start counts as one until it ends
// well.
std::int64_t retry_after(const SavingDatabaseShared& database) noexcept {
    if (database.failures <= 1) return kSecond;  // under way, or met a lock
    return std::min(kRetry << std::min(database.failures - 2, 6u), 600 * kSecond);
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
    if (SavingDatabaseShared* entry = find_database(database)) {
        newly_refused = !registered && !entry->refused;
        entry->refused = !registered;
    }
    LWLockRelease(shared.saving_lock);
    if (newly_refused)
        ereport(LOG,
                (errmsg("prompt_cache: no background worker slot is free: prompts are not saved for now"),
                 errhint("Raise max_worker_processes.")));
}

// Databases in which a worker is wanted and none is at work.
void start_workers() {
    Oid due[SavingShared::kDatabases];
    std::size_t count = 0;
    const std::int64_t now = memory::now();
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    for (SavingDatabaseShared& database : shared.saving->databases) {
        const bool clean = database.unclean && now - database.cleaned > kClean;
        if (database.oid == InvalidOid || !(database.wanted || clean) || database.worker != 0 ||
            (database.started != 0 && now - database.started < retry_after(database)))
            continue;
        // Asked for: the next note asks again. Counted as a failure until the worker ends well.
        database.started = now;
        database.failures++;
        database.wanted = false;
        due[count++] = database.oid;
    }
    LWLockRelease(shared.saving_lock);
    for (std::size_t i = 0; i < count; i++) start_worker(due[i]);
}

void reload_if_asked() {
    CHECK_FOR_INTERRUPTS();
    if (!ConfigReloadPending) return;
    ConfigReloadPending = false;
    ProcessConfigFile(PGC_SIGHUP);
}

void launcher_exits(int, Datum) {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    shared.saving->launcher = 0;
    LWLockRelease(shared.saving_lock);
}

// A worker that ends in peace may follow at once; after an error the launcher waits for kRetry.
bool ended_well_local = false;
bool blocked_local = false;  // somebody had one of our tables: as after an error, but nothing to log
void worker_exits(int, Datum) {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* database = find_database(MyDatabaseId);
        database && database->worker == MyProcPid) {
        database->worker = 0;
        database->started = ended_well_local && !blocked_local ? 0 : memory::now();
        if (ended_well_local) database->failures = 0;
        if (blocked_local) database->wanted = database->unclean = true;
        if (!ended_well_local) {
            database->failures++;
            database->wanted = database->walk = database->unclean = true;  // what it had taken is found again
        }
    }
    LWLockRelease(shared.saving_lock);
}

// What somebody sets for a database or a role is meant for its clients.
void use_own_settings() {
    constexpr const char* kOwn[][2] = {{"default_transaction_isolation", "read committed"},
                                       {"default_transaction_read_only", "off"},
                                       {"default_transaction_deferrable", "off"},
                                       {"statement_timeout", "0"},
                                       {"lock_timeout", "0"},
                                       {"idle_in_transaction_session_timeout", "0"},
                                       {"search_path", "pg_catalog"},
                                       {"prompt_cache.memory", "on"},
                                       {"prompt_cache.database", "on"},
                                       {"role", "none"}};
    for (const auto& [name, value] : kOwn) SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

// Opens a transaction that holds our tables; false, with nothing open, where somebody else is changing them.
bool begin_work() {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    if (lock_extension() && try_lock_own_tables()) return true;
    PopActiveSnapshot();
    AbortCurrentTransaction();
    blocked_local = true;
    return false;
}

void end_work() {
    PopActiveSnapshot();
    CommitTransactionCommand();
    pgstat_report_stat(false);
    CHECK_FOR_INTERRUPTS();
}

bool is_usable_here() {
    if (!begin_work()) return false;
    const bool usable = is_attached();
    end_work();
    return usable;
}

// A worker ends after this time, done or not, so that DROP, RENAME and TEMPLATE find the database free within
// the five seconds that the server gives them. What is left is noted.
constexpr std::int64_t kShift = 3 * kSecond;
bool is_over(std::int64_t began) noexcept {
    return memory::now() - began > kShift;
}

std::uint64_t save_noted(std::int64_t began) {
    std::uint64_t written = 0;
    auto* items = static_cast<SavingItemShared*>(
        MemoryContextAlloc(TopMemoryContext, kBatch * sizeof(SavingItemShared)));
    pgstat_report_activity(STATE_RUNNING, "saving prompts");
    for (bool more = true; more && !is_over(began) && begin_work();) {
        const std::uint32_t count = saving::take(items, kBatch);
        more = count > 0;
        if (more) {
            written += static_cast<std::uint64_t>(save_items({items, count}));
        } else if (std::optional<std::uint32_t> bucket = saving::take_walk()) {
            more = true;
            written += static_cast<std::uint64_t>(save_slice(*bucket, kBatch));
            if (*bucket != 0) saving::put_walk_back(*bucket);
        }
        end_work();
    }
    pfree(items);
    return written;
}

// Brings the newest rows back, until warm_share of the memory is used. Returns where to go on, 0 at the end.
std::int64_t warm(std::int64_t before, std::int64_t began) {
    pgstat_report_activity(STATE_RUNNING, "warming memory");
    while (before > 0 && !is_over(began) && memory::used_share() < settings::warm_share) {
        if (!begin_work()) return before;
        before = warm_rows(before, kBatch);
        end_work();
    }
    return memory::used_share() < settings::warm_share ? before : 0;
}

// A thousand tags and rows at a time. False if the shift is over and more is left.
bool clean_up(bool purge, std::int64_t began) {
    pgstat_report_activity(STATE_RUNNING, "housekeeping");
    static Query query("SELECT prompt_cache._clean_up()");
    bool more = true;
    while (more && !is_over(began) && begin_work()) {
        spi_connect();
        query.run(nullptr, nullptr, false);
        more = DatumGetBool(*result_datum(0, 1));
        SPI_finish();
        end_work();
    }
    if (more || !purge || !begin_work()) return !more;
    if (try_lock_sources()) purge_gone();
    end_work();
    return true;
}

}  // namespace

// The server finds a worker's main function by its name.
#define PC_WORKER(name)                                                 \
    extern "C" __attribute__((visibility("default"))) void name(Datum); \
    void name([[maybe_unused]] Datum argument)

PC_WORKER(pc_launcher_main) {
    pqsignal(SIGINT, SIG_IGN);
    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);  // to be seen in pg_stat_activity; no database
    before_shmem_exit(launcher_exits, static_cast<Datum>(0));
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    shared.saving->launcher = MyProcPid;
    LWLockRelease(shared.saving_lock);
    MemoryContext scratch =
        AllocSetContextCreate(TopMemoryContext, "prompt_cache launcher", ALLOCSET_SMALL_SIZES);
    for (;;) {
        MemoryContextReset(scratch);
        MemoryContextSwitchTo(scratch);
        if (ShutdownRequestPending) proc_exit(1);  // by hand: the postmaster starts another one
        reload_if_asked();
        start_workers();
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, settings::persist_naptime,
                  launcher_wait_event());
        ResetLatch(MyLatch);
    }
}

PC_WORKER(pc_worker_main) {
    pqsignal(SIGTERM, die);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(argument), InvalidOid,
                                              BGWORKER_BYPASS_ALLOWCONN);
    use_own_settings();
    before_shmem_exit(worker_exits, static_cast<Datum>(0));

    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    SavingDatabaseShared* database = find_database(MyDatabaseId);
    const std::int64_t began = memory::now();
    bool to_warm = false;
    std::int64_t warm_before = 0;
    bool to_clean = false;
    bool to_purge = false;
    if (database) {
        database->worker = MyProcPid;
        to_warm = !database->warmed;
        warm_before = database->warm_before == 0 ? INT64_MAX : database->warm_before;
        to_clean = database->unclean && memory::now() - database->cleaned > kClean;
        if (to_clean) {
            database->unclean = false;
            database->cleaned = memory::now();
            to_purge = database->rounds++ % kRoundsToPurge == 0;
        }
    }
    LWLockRelease(shared.saving_lock);

    if (database && is_usable_here()) {
        if (to_warm) warm_before = warm(warm_before, began);
        const std::uint64_t written = save_noted(began);
        const bool clean = !to_clean || clean_up(to_purge, began);
        LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
        if (SavingDatabaseShared* entry = find_database(MyDatabaseId)) {
            entry->written += written;
            if (!clean) {
                entry->unclean = true;
                entry->cleaned = 0;  // go on with it soon
            }
            if (to_warm) {
                entry->warmed = warm_before == 0;
                entry->warm_before = warm_before;
                entry->wanted |= !entry->warmed;
            }
            for (std::uint32_t i = 0; i < shared.saving->count; i++)
                entry->wanted |= shared.saving->items[i].database == MyDatabaseId;
        }
        LWLockRelease(shared.saving_lock);
    } else if (!blocked_local) {
        saving::forget_items();  // nothing is attached here any more
    }
    ended_well_local = true;
    proc_exit(0);
}

void register_launcher() {
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = 5;
    strlcpy(worker.bgw_name, "prompt_cache launcher", BGW_MAXLEN);
    strlcpy(worker.bgw_type, "prompt_cache launcher", BGW_MAXLEN);
    strlcpy(worker.bgw_library_name, "prompt_cache", BGW_MAXLEN);
    strlcpy(worker.bgw_function_name, "pc_launcher_main", BGW_MAXLEN);
    RegisterBackgroundWorker(&worker);
}

}  // namespace prompt_cache
