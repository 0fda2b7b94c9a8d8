// The one doorway to PostgreSQL's headers: every other file includes this and never a server header of its
// own before it. The server is C; here it gets C linkage, and the differences between versions end here.
//
// Standard C++ headers come first: the server redefines names such as snprintf and _ as macros.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

extern "C" {
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "optimizer/planner.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "port/pg_bswap.h"
#include "postmaster/autovacuum.h"
#include "replication/logicalworker.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/sinval.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/varlena.h"
}

namespace prompt_cache {

// The next id the server will hand out, read without a lock: eight aligned bytes cannot tear, and what is
// asked of it is only the epoch, so that it may be old by two thousand million ids.
inline std::uint64_t next_full_xid_hint() noexcept {
#if PG_VERSION_NUM >= 170000
    const FullTransactionId* next = &TransamVariables->nextXid;
#else
    const FullTransactionId* next = &ShmemVariableCache->nextXid;
#endif
    return __atomic_load_n(&next->value, __ATOMIC_RELAXED);
}

// Names the current transaction of this backend; a later transaction has another number.
inline LocalTransactionId local_transaction_id() noexcept {
#if PG_VERSION_NUM >= 170000
    return MyProc->vxid.lxid;
#else
    return MyProc->lxid;
#endif
}

// Whose number that is: no other backend has had the same two numbers since the server was started.
inline int local_transaction_backend() noexcept {
#if PG_VERSION_NUM >= 170000
    return MyProc->vxid.procNumber;
#else
    return MyProc->backendId;
#endif
}

inline int backend_number() noexcept {
#if PG_VERSION_NUM >= 170000
    return MyProcNumber;
#else
    return MyProc->pgprocno;
#endif
}

// Is this process an autovacuum worker?
inline bool in_autovacuum_worker() noexcept {
#if PG_VERSION_NUM >= 170000
    return AmAutoVacuumWorkerProcess();
#else
    return IsAutoVacuumWorkerProcess();
#endif
}

#if PG_VERSION_NUM >= 190000
#define PC_PLANNER_PARAMETERS \
    Query *query, const char *source, int options, ParamListInfo parameters, ExplainState *explain
#define PC_PLANNER_ARGUMENTS query, source, options, parameters, explain
#else
#define PC_PLANNER_PARAMETERS Query *query, const char *source, int options, ParamListInfo parameters
#define PC_PLANNER_ARGUMENTS query, source, options, parameters
#endif

// Has a transaction that is not this one's let its locks go? That comes after its messages about DDL were sent.
inline bool has_released_locks(TransactionId xid) {
#if PG_VERSION_NUM >= 180000
    return ConditionalXactLockTableWait(xid, false);
#else
    return ConditionalXactLockTableWait(xid);
#endif
}

// ALTER TABLE ONLY … ENABLE ALWAYS TRIGGER. The caller holds ShareRowExclusiveLock.
inline void enable_trigger_always(Relation relation, const char* name) {
#if PG_VERSION_NUM >= 160000
    EnableDisableTrigger(relation, name, InvalidOid, TRIGGER_FIRES_ALWAYS, false, false, ShareRowExclusiveLock);
#else
    EnableDisableTriggerNew2(relation, name, InvalidOid, TRIGGER_FIRES_ALWAYS, false, false, ShareRowExclusiveLock);
#endif
}

// What pg_stat_activity shows for a wait on somebody else's build.
inline std::uint32_t build_wait_event() {
#if PG_VERSION_NUM >= 170000
    static std::uint32_t event = 0;
    if (event == 0) event = WaitEventExtensionNew("prompt_cache build");
    return event;
#else
    return PG_WAIT_EXTENSION;
#endif
}

inline std::uint32_t launcher_wait_event() {
#if PG_VERSION_NUM >= 170000
    static std::uint32_t event = 0;
    if (event == 0) event = WaitEventExtensionNew("prompt_cache launcher");
    return event;
#else
    return PG_WAIT_EXTENSION;
#endif
}

inline std::uint32_t redis_wait_event() {
#if PG_VERSION_NUM >= 170000
    static std::uint32_t event = 0;
    if (event == 0) event = WaitEventExtensionNew("prompt_cache redis");
    return event;
#else
    return PG_WAIT_EXTENSION;
#endif
}

inline std::string_view view_of(const text* value) noexcept {
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

inline text* make_text(std::string_view value) {
    return cstring_to_text_with_len(value.data(), static_cast<int>(value.size()));
}

}  // namespace prompt_cache
