#include "cache/transaction.hpp"

#include "cache/building.hpp"
#include "cache/judge.hpp"
#include "cache/shared.hpp"
#include "cache/slots.hpp"
#include "cache/sources.hpp"
#include "cache/writer.hpp"
#include "pg/expression_objects.hpp"
#include "pg/settings.hpp"
#include "pg/temporary_objects.hpp"

extern "C" {
#include "commands/defrem.h"
}

namespace prompt_cache {

using core::applies;
using core::Rule;

namespace {

ExecutorRun_hook_type previous_run = nullptr;
ExecutorFinish_hook_type previous_finish = nullptr;
ProcessUtility_hook_type previous_utility = nullptr;

// Statements in flight that write; the outermost one's output id tells which snapshots can see its rows.
struct WritingLocal {
    int depth = 0;
    CommandId output_cid = 0;
} writing_local;

struct VacuumLocal {
    int depth = 0;
    LocalTransactionId transaction = InvalidLocalTransactionId;  // commits after the command has returned
} vacuum_local;

// What own commands have sent messages about.
struct OwnDdlLocal {
    static constexpr std::size_t kMax = 256;
    std::array<std::uint32_t, kMax> objects{};
    std::size_t count = 0;
    bool too_many = false;

    bool any() const noexcept { return count > 0 || too_many; }
    // 0 stands for anything.
    void note(std::uint32_t object) noexcept {
        if (!IsTransactionState() || !TransactionIdIsValid(GetTopTransactionIdIfAny())) return;
        const auto end = objects.begin() + count;
        if (std::find(objects.begin(), end, object) != end) return;
        if (object == 0 || count == kMax)
            too_many = true;
        else
            objects[count++] = object;
    }
    bool concerns(std::span<const std::uint32_t> others) const noexcept {
        if (too_many) return true;
        for (std::size_t i = 0; i < count; i++)
            if (std::find(others.begin(), others.end(), objects[i]) != others.end()) return true;
        return false;
    }
};
OwnDdlLocal relations_local;
OwnDdlLocal objects_local;
OwnDdlLocal code_local;  // what a builder may be made of; which of it is not kept

// Is any of relations_local a source of anything? As of so many of them; looked up when first asked.
struct SourceDdlLocal {
    std::size_t asked = 0;
    bool concerns = false;
} source_ddl_local;

bool writes(const QueryDesc* query) noexcept {
    return query->operation != CMD_SELECT || (query->plannedstmt && query->plannedstmt->hasModifyingCTE);
}

void enter_writing(CommandId output_cid) noexcept {
    if (writing_local.depth++ == 0) writing_local.output_cid = output_cid;
}

#if PG_VERSION_NUM >= 180000
#define PC_RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count
#define PC_RUN_ARGUMENTS query, direction, count
#else
#define PC_RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count, bool once
#define PC_RUN_ARGUMENTS query, direction, count, once
#endif

void run_next(PC_RUN_PARAMETERS) {
    if (previous_run)
        previous_run(PC_RUN_ARGUMENTS);
    else
        standard_ExecutorRun(PC_RUN_ARGUMENTS);
}

void run_hook(PC_RUN_PARAMETERS) {
    const bool writing = writes(query);
    if (building::current()) building::note_query(*query, writing);
    if (!writing) {
        run_next(PC_RUN_ARGUMENTS);
        return;
    }
    if (vacuum_local.depth == 0) vacuum_local.transaction = InvalidLocalTransactionId;
    enter_writing(query->estate->es_output_cid);
    PG_TRY();
    { run_next(PC_RUN_ARGUMENTS); }
    PG_FINALLY();
    { writing_local.depth--; }
    PG_END_TRY();
}

void finish_next(QueryDesc* query) {
    if (previous_finish)
        previous_finish(query);
    else
        standard_ExecutorFinish(query);
}

void finish_hook(QueryDesc* query) {
    if (!writes(query)) {
        finish_next(query);
        return;
    }
    enter_writing(query->estate->es_output_cid);
    PG_TRY();
    { finish_next(query); }
    PG_FINALLY();
    { writing_local.depth--; }
    PG_END_TRY();
}

#define PC_UTILITY_PARAMETERS                                                                       \
    PlannedStmt *statement, const char *source, bool read_only_tree, ProcessUtilityContext context, \
        ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *receiver,            \
        QueryCompletion *done
#define PC_UTILITY_ARGUMENTS \
    statement, source, read_only_tree, context, parameters, environment, receiver, done

void utility_next(PC_UTILITY_PARAMETERS) {
    if (previous_utility)
        previous_utility(PC_UTILITY_ARGUMENTS);
    else
        standard_ProcessUtility(PC_UTILITY_ARGUMENTS);
}

// VACUUM FULL writes the table anew and freezes rows, of which standbys are not told: their older snapshots then see rows
// that they did not. It counts as the DDL that it is.
bool is_full(const VacuumStmt* statement) {
    bool full = false;
    ListCell* cell;
    foreach (cell, statement->options) {
        auto* option = static_cast<DefElem*>(lfirst(cell));
        if (strcmp(option->defname, "full") == 0) full = defGetBoolean(option);  // the last one counts
    }
    return full;
}

bool is_vacuum(const Node* node) {
    return IsA(node, VacuumStmt) && !is_full(reinterpret_cast<const VacuumStmt*>(node));
}

void vacuum_utility(PC_UTILITY_PARAMETERS) {
    vacuum_local.depth++;
    PG_TRY();
    { utility_next(PC_UTILITY_ARGUMENTS); }
    PG_FINALLY();
    { vacuum_local.depth--; }
    PG_END_TRY();
    // VACUUM and ANALYZE outside a block leave their last transaction for the main loop to commit.
    vacuum_local.transaction = local_transaction_id();
}

void copy_utility(PC_UTILITY_PARAMETERS) {
    enter_writing(GetCurrentCommandId(false));
    PG_TRY();
    { utility_next(PC_UTILITY_ARGUMENTS); }
    PG_FINALLY();
    { writing_local.depth--; }
    PG_END_TRY();
}

bool is_about_functions(const GrantStmt& statement) {
    return statement.objtype == OBJECT_FUNCTION || statement.objtype == OBJECT_PROCEDURE ||
           statement.objtype == OBJECT_ROUTINE;
}

void utility_hook(PC_UTILITY_PARAMETERS) {
    const Node* node = statement->utilityStmt;
    if (IsA(node, VariableShowStmt)) building::note_show(reinterpret_cast<const VariableShowStmt*>(node)->name);
    // The first command of a pipeline does not know yet that others follow in its transaction.
    if (vacuum_local.depth == 0) vacuum_local.transaction = InvalidLocalTransactionId;
    if (IsA(node, GrantStmt) && is_about_functions(*reinterpret_cast<const GrantStmt*>(node)))
        temporary_objects::note_own_functions();
    if (IsA(node, AlterTSConfigurationStmt))
        temporary_objects::note_configuration(reinterpret_cast<const AlterTSConfigurationStmt*>(node)->cfgname);
    if (is_vacuum(node) && !IsInTransactionBlock(context == PROCESS_UTILITY_TOPLEVEL) &&
        !TransactionIdIsValid(GetTopTransactionIdIfAny()))
        vacuum_utility(PC_UTILITY_ARGUMENTS);
    else if (IsA(node, CopyStmt) && reinterpret_cast<const CopyStmt*>(node)->is_from)
        copy_utility(PC_UTILITY_ARGUMENTS);
    else
        utility_next(PC_UTILITY_ARGUMENTS);
}

// These run for own DDL at the end of each command and for others' whenever messages are read. Without an own
// id there is no own DDL.
void relation_changed(Datum, Oid relation) {
    if (OidIsValid(relation) && relation < FirstNormalObjectId) return;
    relations_local.note(relation);
    objects_local.note(OidIsValid(relation) ? catalog_object(kNoCache, relation) : 0);
}

void object_changed(Datum, int cache, std::uint32_t hash) {
    objects_local.note(hash == 0 ? 0 : catalog_object(cache, hash));
    if (is_code_cache(cache)) code_local.note(0);
}

bool statement_in_flight(Snapshot snapshot) noexcept {
    if (IsLogicalWorker()) return TransactionIdIsValid(GetTopTransactionIdIfAny());
    return writing_local.depth > 0 && snapshot->curcid > writing_local.output_cid &&
           TransactionIdIsValid(GetTopTransactionIdIfAny());
}

}  // namespace

void install_transaction_hooks() {
    previous_run = ExecutorRun_hook;
    ExecutorRun_hook = run_hook;
    previous_finish = ExecutorFinish_hook;
    ExecutorFinish_hook = finish_hook;
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = utility_hook;
    CacheRegisterRelcacheCallback(relation_changed, static_cast<Datum>(0));
    for (const int cache : kObjectCaches)
        CacheRegisterSyscacheCallback(cache, object_changed, static_cast<Datum>(0));
}

namespace {

Bypass why_bypass(const Judge& judge) noexcept {
    if (!shared) return Bypass::kNotPreloaded;
    if (!judge.snapshot) return Bypass::kNoSnapshot;
    if (IsParallelWorker() && TransactionIdIsValid(GetTopTransactionIdIfAny()))
        return Bypass::kParallelWriter;
    if (applies(Rule::kBootBound) && judge.view.xmin < judge.since) return Bypass::kOlderThanServer;
    if (is_premarked()) return Bypass::kPremarked;
    if (applies(Rule::kStatementInFlight) && statement_in_flight(judge.snapshot))
        return Bypass::kStatementInFlight;
    if (everything_is_dirty()) return Bypass::kOwnChanges;
    if (IsolationIsSerializable()) return Bypass::kSerializable;
    return Bypass::kNone;
}

}  // namespace

Judge open_judge() {
    Judge judge;
    judge.snapshot = caller_snapshot();
    if (judge.snapshot) {
        judge.view = view_of(judge.snapshot);
        reserve_view_of_now();
    }
    if (shared) judge.since = primary_since();
    judge.bypass = why_bypass(judge);
    if (judge.bypass == Bypass::kNone) judge.by = judge.since == 0 ? Judge::By::kStamps : Judge::By::kMarks;
    if (judge.by == Judge::By::kStamps) judge.identity = identity_of(judge.snapshot);
    return judge;
}

bool lend_snapshot(Judge& judge) {
    if (judge.snapshot) return false;
    PushActiveSnapshot(GetTransactionSnapshot());
    judge.snapshot = GetActiveSnapshot();
    return true;
}

bool has_own_ddl() noexcept {
    return applies(Rule::kOwnDdl) && (relations_local.any() || objects_local.any());
}

bool own_ddl_concerns(std::span<const Oid> sources, std::span<const std::uint32_t> objects) noexcept {
    return has_own_ddl() && (relations_local.concerns(sources) || objects_local.concerns(objects));
}

bool own_ddl_may_show(std::span<const Oid> sources, std::span<const std::uint32_t> objects) noexcept {
    return has_own_ddl() && (code_local.any() || own_ddl_concerns(sources, objects));
}

namespace {

// A value hangs on the sources of others too, by what its builder fetches.
bool source_ddl_concerns(std::span<const Oid> relations) {
    SourceDdlLocal& known = source_ddl_local;
    if (known.asked == relations.size()) return known.concerns;
    const SourceSet sources = current_sources();
    known.concerns =
        std::any_of(relations.begin(), relations.end(), [&](Oid relation) { return sources.contains(relation); });
    known.asked = relations.size();
    return known.concerns;
}

}  // namespace

// Messages of others arrive in between and look the same: who makes functions in a loop would let everybody who writes
// bypass the cache. The transaction's own can be listed where no subtransaction is open. Conservative elsewhere.
bool code_is_own() {
    if (GetCurrentTransactionNestLevel() > 1) return true;
    SharedInvalidationMessage* messages = nullptr;
    bool init_file = false;
    const int count = xactGetCommittedInvalidationMessages(&messages, &init_file);
    const bool own = std::any_of(messages, messages + count, [](const SharedInvalidationMessage& message) {
        return message.id >= 0 && is_code_cache(message.id);
    });
    if (messages) pfree(messages);
    return own;
}

bool own_ddl_concerns(bool (*is_source)(const void* context, Oid relation), const void* context) {
    if (!has_own_ddl()) return false;
    if (code_local.any() && !code_is_own()) code_local = {};
    if (code_local.any() || relations_local.too_many) return true;
    const std::span<const std::uint32_t> relations{relations_local.objects.data(), relations_local.count};
    return source_ddl_concerns(relations) || std::any_of(relations.begin(), relations.end(), [&](Oid relation) {
        const char kind = get_rel_relkind(relation);
        return is_code_relation(kind) || kind == '\0' || is_source(context, relation);
    });
}

bool is_vacuuming() noexcept {
    return in_autovacuum_worker() || (MyProc->statusFlags & PROC_IN_VACUUM) != 0 || vacuum_local.depth > 0 ||
           vacuum_local.transaction == local_transaction_id();
}

void changes_no_row() noexcept {
    vacuum_local.transaction = local_transaction_id();
}

void forget_transaction() noexcept {
    relations_local.count = objects_local.count = code_local.count = 0;
    relations_local.too_many = objects_local.too_many = code_local.too_many = false;
    source_ddl_local = {};
}

const char* describe(Bypass reason) noexcept {
    switch (reason) {
        case Bypass::kNone:
            return "";
        case Bypass::kNotPreloaded:
            return "prompt_cache is not in shared_preload_libraries";

        case Bypass::kNoSnapshot:
            return "there is no MVCC snapshot to judge by";
        case Bypass::kSerializable:
            return "the transaction is SERIALIZABLE";
        case Bypass::kParallelWriter:
            return "a parallel worker of a writing transaction";
        case Bypass::kOlderThanServer:
            return "the snapshot is older than this server's life as a primary";
        case Bypass::kStatementInFlight:
            return "a statement of this transaction is still writing";
        case Bypass::kPremarked:
            return "the transaction is committing";
        case Bypass::kOwnChanges:
            return "this transaction has changed everything";
        case Bypass::kOwnDdl:
            return "this transaction has changed the definition of a source";
    }
    return "";
}

}  // namespace prompt_cache
