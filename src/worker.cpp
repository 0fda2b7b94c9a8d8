// A worker: what was composed is written to the table, what a restart has cost is brought back, and the
// database's tables are kept in order.
//
//   waits     for what was noted to be due, or for the server to stop; connected to no database
//   works     connected to one, in transactions of a few hundred rows each, never longer than a shift
//   ends      the launcher starts the next one when there is something to do
//
// Nothing depends on it but history and the speed after a restart. It waits for nobody's lock longer than a
// moment. An error ends the step, not the worker: it is logged when it is new, and the launcher
// waits longer before each next try. A server in recovery has no workers.
//
// SIGTERM, which the server sends when it stops and DROP DATABASE WITH (FORCE) too, means: save what is
// pending, then end. A second one ends it at once. SIGINT cancels the transaction it is in; the next worker
// goes on.
#include "worker.hpp"

#include "cache/attachment.hpp"
#include "cache/memory.hpp"
#include "cache/save.hpp"
#include "cache/saving.hpp"
#include "cache/upkeep.hpp"
#include "pg/catalog.hpp"
#include "pg/condition.hpp"
#include "pg/settings.hpp"
#include "process.hpp"

extern "C" {
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/timeout.h"
}

namespace prompt_cache {

namespace {

using Step = SavingDatabaseShared::Step;

constexpr std::int64_t kSecond = 1000000;
constexpr std::uint32_t kBatch = 200;  // prompts a transaction

// Done or not, so that DROP, RENAME and TEMPLATE find the database free within the five seconds that the
// server gives them. What is left is for the next worker.
constexpr std::int64_t kShift = 3 * kSecond;
// The same where the server stops.
constexpr std::int64_t kLastShift = 30 * kSecond;
// A statement that does not end by itself is cancelled so long after that.
constexpr int kGraceMs = 1500;

struct ShiftLocal {
    std::int64_t began = 0;
    bool last = false;     // the server stops
    bool blocked = false;  // somebody had what was needed: to be tried again in a moment
    bool gone = false;     // the extension
    bool failed = false;   // saving ended with an error
    std::uint64_t written = 0;
} shift_local;

TimeoutId timeout_local;
volatile sig_atomic_t timed_out_local = false;

void time_is_up() {
    timed_out_local = true;
    QueryCancelPending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

void begin_time(std::int64_t shift) {
    shift_local.began = memory::now();
    enable_timeout_after(timeout_local, static_cast<int>(shift / 1000) + kGraceMs);
}

bool is_over() {
    if (ShutdownRequestPending && shared.saving->stopping && !shift_local.last) {
        shift_local.last = true;
        begin_time(kLastShift);
    }
    return memory::now() - shift_local.began > (shift_local.last ? kLastShift : kShift);
}

// Changes the database's place in the list; nothing if it is gone with the database.
template <typename Change>
void with_place(Change change) {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* place = saving::find(MyDatabaseId)) change(*place);
    LWLockRelease(shared.saving_lock);
}

// What a step could not do, null if nothing. health() shows it; the log has it when it begins and ends, with the error's
// own words, which health() must not show: they may hold parts of rows.
void tell(Step step, const char* problem, const char* words = nullptr) {
    constexpr const char* kNames[] = {"saving prompts to user_prompt_cache", "warming memory from user_prompt_cache",
                                      "housekeeping of the tables of prompt_cache"};
    char text[SavingDatabaseShared::kProblem] = "";
    if (problem) {
        const char* shown = psprintf("%s: %s%s", kNames[step], problem, words ? "; see the server log" : "");
        memcpy(text, shown,
               static_cast<std::size_t>(pg_mbcliplen(shown, static_cast<int>(strlen(shown)), sizeof(text) - 1)));
    }
    bool changed = false;
    with_place([&](SavingDatabaseShared& place) {
        changed = (place.problem[step][0] == '\0') != (text[0] == '\0');
        memcpy(place.problem[step], text, sizeof(text));
    });
    if (!changed) return;
    if (problem)
        ereport(LOG, (errmsg("prompt_cache: %s: %s", kNames[step], problem), words ? errdetail_log("%s", words) : 0));
    else
        ereport(LOG, (errmsg("prompt_cache: %s: all is done again", kNames[step])));
}

void tell_left_out(Step step, const LeftOutLocal& left_out) {
    if (left_out.count > 0)
        tell(step, psprintf("%u users left out, first %s", left_out.count, left_out.why), left_out.text);
}

void begin_work() {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
}

void end_work() {
    PopActiveSnapshot();
    CommitTransactionCommand();
    pgstat_report_stat(false);
}

enum class Outcome { kDone, kBlocked, kError };

// Ends the transaction; an error of the step itself is reported.
Outcome after_error(Step step) {
    HOLD_INTERRUPTS();
    MemoryContextSwitchTo(TopMemoryContext);
    ErrorData* error = CopyErrorData();
    FlushErrorState();
    AbortCurrentTransaction();
    RESUME_INTERRUPTS();
    const int code = error->sqlerrcode;
    const bool blocked = code == ERRCODE_LOCK_NOT_AVAILABLE ||
                         (code == ERRCODE_QUERY_CANCELED && !timed_out_local) ||
                         code == ERRCODE_T_R_DEADLOCK_DETECTED || code == ERRCODE_T_R_SERIALIZATION_FAILURE;
    if (!blocked && timed_out_local)
        tell(step, "a statement took too long");
    else if (!blocked)
        tell(step, describe_code(code), error->detail_log ? error->detail_log : error->message);
    FreeErrorData(error);
    return blocked ? Outcome::kBlocked : Outcome::kError;
}

// One transaction of a step, which holds the extension and our tables so that nobody who drops them meets it
// in a deadlock. Where somebody else has them the shift is over.
template <typename Work>
Outcome transact(Step step, Work work) {
    if (shift_local.blocked || shift_local.gone) return Outcome::kBlocked;
    volatile Outcome outcome = Outcome::kBlocked;
    PG_TRY();
    {
        CHECK_FOR_INTERRUPTS();
        begin_work();
        shift_local.gone = !lock_extension();
        if (!shift_local.gone && try_lock_own_tables()) {
            work();
            end_work();
            outcome = Outcome::kDone;
        } else {
            PopActiveSnapshot();
            AbortCurrentTransaction();
        }
    }
    PG_CATCH();
    { outcome = after_error(step); }
    PG_END_TRY();
    shift_local.blocked |= outcome == Outcome::kBlocked && !shift_local.gone;
    return outcome;
}

// Brings prompts back until warm_share of the memory is used: those in use before the restart, hottest first,
// then the newest.
void warm() {
    std::int32_t rank = 0;
    std::int64_t before = 0;
    bool warmed = true;
    with_place([&](SavingDatabaseShared& place) {
        rank = place.warm_rank;
        before = place.warm_before == 0 ? INT64_MAX : place.warm_before;
        warmed = place.warmed;
    });
    if (warmed || ShutdownRequestPending) return;
    pgstat_report_activity(STATE_RUNNING, "warming memory");
    bool whole = true;  // nobody left out
    while (!warmed && !ShutdownRequestPending && !is_over()) {
        Progress progress = Progress::kDone;
        const Outcome outcome = transact(SavingDatabaseShared::kWarming, [&] {
            LeftOutLocal left_out;
            if (memory::used_share() < settings::warm_share)
                progress = warm_slice(rank, before, kBatch, left_out);
            tell_left_out(SavingDatabaseShared::kWarming, left_out);
            whole = whole && left_out.count == 0;
        });
        if (outcome == Outcome::kBlocked) break;
        // After an error: without the usage order, or not at all.
        whole = whole && outcome == Outcome::kDone;
        warmed = outcome == Outcome::kDone ? progress == Progress::kDone : rank < 0;
        if (outcome == Outcome::kError) rank = -1;
        shift_local.blocked |= progress == Progress::kNotNow;
        if (shift_local.blocked) break;
    }
    with_place([&](SavingDatabaseShared& place) {
        place.warm_rank = rank;
        place.warm_before = before;
        place.warmed = warmed;
    });
    if (warmed && whole) tell(SavingDatabaseShared::kWarming, nullptr);
}

// Where the server stops, whoever had our tables goes too, and there will be no other worker.
bool try_again() {
    if (!ShutdownRequestPending || !shift_local.blocked || is_over()) return false;
    shift_local.blocked = false;
    pg_usleep(20000);
    return true;
}

// A batch of what was noted, else of the walk. True: there may be more.
bool save_batch(SavingItemShared* items) {
    const std::uint32_t count = saving::take(items, kBatch);
    std::optional<std::uint32_t> bucket;
    if (count == 0) bucket = saving::take_walk();
    if (count == 0 && !bucket) return false;
    Progress progress = Progress::kNotNow;
    LeftOutLocal left_out;
    const Outcome outcome = transact(SavingDatabaseShared::kSaving, [&] {
        std::int64_t written = 0;
        progress = count > 0 ? save_items({items, count}, written, left_out)
                             : save_slice(*bucket, kBatch, written, left_out);
        shift_local.written += static_cast<std::uint64_t>(written);
        tell_left_out(SavingDatabaseShared::kSaving, left_out);
    });
    if (outcome != Outcome::kDone || progress == Progress::kNotNow) {
        saving::put_walk_back(bucket.value_or(0));  // what was taken is found again
        shift_local.failed = outcome == Outcome::kError;
        shift_local.blocked |= outcome == Outcome::kDone;
        return false;
    }
    if (progress == Progress::kMore) saving::put_walk_back(*bucket);
    const bool walked = bucket && progress == Progress::kDone;
    with_place([&](SavingDatabaseShared& place) {
        if (left_out.count > 0 && place.walk_at == 0)
            place.walk_at = memory::now() + (10 * kSecond << std::min(place.walk_tries++, 6u));
        if (walked && place.walk_at == 0) place.walk_tries = 0;
    });
    return true;
}

void save() {
    pgstat_report_activity(STATE_RUNNING, "saving prompts");
    auto* items = static_cast<SavingItemShared*>(
        MemoryContextAlloc(TopMemoryContext, kBatch * sizeof(SavingItemShared)));
    do {
        while (!shift_local.blocked && !is_over() && save_batch(items)) continue;
    } while (try_again());
    pfree(items);
    bool whole = false;
    with_place([&](SavingDatabaseShared& place) { whole = place.walk_at == 0 && !place.walk; });
    if (whole && !shift_local.failed) tell(SavingDatabaseShared::kSaving, nullptr);
}

void order() {
    bool due = false;
    with_place([&](SavingDatabaseShared& place) {
        due = place.warmed && (ShutdownRequestPending || saving::order_due(place) <= memory::now());
        if (due) place.ordered = memory::now();
        if (due) place.ordered_hits = shared.partitions[0].statistics.sum(core::Counter::kHitsMemory);
    });
    if (!due) return;
    pgstat_report_activity(STATE_RUNNING, "writing the usage order");
    transact(SavingDatabaseShared::kHousekeeping, [] { save_usage_order(); });
}

// VACUUM takes transactions of its own.
Outcome freeze() {
    if (shift_local.blocked || shift_local.gone) return Outcome::kBlocked;
    volatile Outcome outcome = Outcome::kDone;
    PG_TRY();
    {
        SetCurrentStatementStartTimestamp();
        StartTransactionCommand();
        freeze_nonces();
        CommitTransactionCommand();
    }
    PG_CATCH();
    { outcome = after_error(SavingDatabaseShared::kHousekeeping); }
    PG_END_TRY();
    return outcome;
}

// Housekeeping, a little at a time; what does not fit into the shift is gone on with by the next worker.
void keep_house() {
    UpkeepShared upkeep{};
    bool due = false;
    with_place([&](SavingDatabaseShared& place) {
        due = saving::housekeeping_due(place) <= memory::now();
        if (due) upkeep = begin_upkeep(place);
    });
    if (!due || ShutdownRequestPending) return;
    pgstat_report_activity(STATE_RUNNING, "housekeeping");
    bool whole = true;
    while (!upkeep.done() && !ShutdownRequestPending && !is_over()) {
        Outcome outcome = Outcome::kDone;
        if (upkeep.task == UpkeepShared::kFreeze && upkeep.shrinks) outcome = freeze();
        if (outcome == Outcome::kDone)
            outcome = transact(SavingDatabaseShared::kHousekeeping, [&] {
                LeftOutLocal left_out;
                do_upkeep(upkeep, left_out);
                tell_left_out(SavingDatabaseShared::kHousekeeping, left_out);
                whole = whole && left_out.count == 0;
            });
        if (outcome == Outcome::kBlocked) break;
        if (outcome == Outcome::kError) pass_over(upkeep);
        whole = whole && outcome == Outcome::kDone;
    }
    with_place([&](SavingDatabaseShared& place) { end_upkeep(place, upkeep); });
    if (upkeep.done() && whole) tell(SavingDatabaseShared::kHousekeeping, nullptr);
}

// What somebody sets for a database or a role is meant for its clients.
void use_own_settings() {
    constexpr const char* kOwn[][2] = {
        {"default_transaction_isolation", "read committed"},
        {"default_transaction_read_only", "off"},
        {"default_transaction_deferrable", "off"},
        {"statement_timeout", "0"},
        {"lock_timeout", "500ms"},
        // On disk, since flush() takes a row that is there for granted; but no
        // standby is waited for, at the stop least of all.
        {"synchronous_commit", "local"},
#if PG_VERSION_NUM >= 170000
        {"transaction_timeout", "0"},
#endif
        {"idle_in_transaction_session_timeout", "0"},
        {"search_path", "pg_catalog"},
        {"prompt_cache.memory", "on"},
        {"prompt_cache.database", "on"},
        {"role", "none"}
    };
    for (const auto& [name, value] : kOwn) SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

// The postmaster signals a process and then its group, so that one request may come twice.
void stop_soon(SIGNAL_ARGS) {
    static volatile std::int64_t asked_local = 0;
    const std::int64_t now = memory::now();
    if (!ShutdownRequestPending) asked_local = now;
    if (now - asked_local > kSecond)
        die(postgres_signal_arg);
    else
        SignalHandlerForShutdownRequest(postgres_signal_arg);
}

void worker_exits(int code, Datum argument) {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    if (SavingDatabaseShared* place = saving::find(DatumGetObjectId(argument));
        place && place->worker == MyProcPid) {
        // Cut off in the middle: by an operator, who told it to end before, or by an error that it could not
        // stand.
        const bool cut_off = code != 0;
        const bool failed = shift_local.failed || (cut_off && !ShutdownRequestPending);
        const bool again = shift_local.blocked || failed || cut_off;
        place->worker = 0;
        place->working = false;
        place->started = again ? memory::now() : 0;
        place->failures = failed ? place->failures + 1 : 0;
        place->written += shift_local.written;
        if (failed || cut_off) place->walk = true;  // what it may have taken is found again
        if (again && !place->wanted) {
            place->wanted = true;
            place->wanted_since = memory::now();
        }
    }
    LWLockRelease(shared.saving_lock);
    saving::wake_launcher();
}

// False if there is nothing to do here: the database is gone, or has another worker.
bool take_place(Oid database) {
    LWLockAcquire(shared.saving_lock, LW_EXCLUSIVE);
    SavingDatabaseShared* place = saving::find(database);
    const bool taken = place && place->worker == 0;
    if (taken) place->worker = MyProcPid;
    LWLockRelease(shared.saving_lock);
    return taken;
}

// False if the database is gone meanwhile.
bool wait_until_due(Oid database) {
    while (!ShutdownRequestPending) {
        reload_if_asked();
        LWLockAcquire(shared.saving_lock, LW_SHARED);
        const SavingDatabaseShared* place = saving::find(database);
        const std::int64_t due = place ? saving::due(*place) : 0;
        LWLockRelease(shared.saving_lock);
        if (!place) return false;
        const std::int64_t left = due - memory::now();
        if (left <= 0) break;
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                  static_cast<long>(std::min(left, 60 * kSecond) / 1000 + 1), launcher_wait_event());
        ResetLatch(MyLatch);
    }
    return true;
}

void begin_shift() {
    timeout_local = RegisterTimeout(USER_TIMEOUT, time_is_up);
    begin_time(kShift);
    with_place([&](SavingDatabaseShared& place) {
        place.working = true;
        place.wanted = false;
        if (place.walk_at != 0 && (place.walk_at <= memory::now() || ShutdownRequestPending)) {
            place.walk = true;
            place.walk_bucket = 0;
            place.walk_at = 0;
        }
    });
}

void work() {
    bool usable = false;
    Outcome outcome;
    do {
        outcome = transact(SavingDatabaseShared::kSaving, [&] { usable = is_attached(); });
    } while (try_again());
    if (shift_local.gone || (outcome == Outcome::kDone && !usable)) {
        saving::forget_items();
        with_place([](SavingDatabaseShared& place) {
            place.unclean = false;
            place.cleaned = memory::now();
        });
    }
    if (!usable) return;
    warm();
    save();
    keep_house();
    order();
    const bool noted = saving::any_noted();
    with_place([&](SavingDatabaseShared& place) {
        if (place.wanted || (place.warmed && !noted)) return;
        place.wanted = true;
        place.wanted_since = memory::now();
    });
}

}  // namespace

PC_WORKER(pc_worker_main) {
    const Oid database = DatumGetObjectId(argument);
    pqsignal(SIGINT, SIG_IGN);
    pqsignal(SIGTERM, stop_soon);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    before_shmem_exit(worker_exits, argument);
    if (!take_place(database)) proc_exit(0);
    BackgroundWorkerUnblockSignals();
    if (!wait_until_due(database)) proc_exit(0);

    pqsignal(SIGINT, StatementCancelHandler);
    BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
    use_own_settings();
    begin_shift();
    work();
    proc_exit(0);
}

}  // namespace prompt_cache
