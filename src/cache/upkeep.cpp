#include "cache/upkeep.hpp"

#include "cache/save.hpp"
#include "cache/saving.hpp"
#include "cache/transaction.hpp"
#include "pg/catalog.hpp"
#include "pg/query.hpp"

extern "C" {
#include "commands/vacuum.h"
#include "nodes/makefuncs.h"
#include "parser/parse_node.h"
#include "utils/portal.h"
}

namespace prompt_cache {

namespace {

constexpr std::int64_t kIdleNaps = 10;           // without a nonce
constexpr std::int64_t kNoncesWorthAPass = 500;  // ... or a tenth of the table, while more come
constexpr std::int64_t kNonceSlice = 2000;       // as _compact_nonces() takes
constexpr std::uint32_t kRoundsToPurge = 20;
constexpr std::uint32_t kPurgeSlice = 500;  // users a transaction

void next_task(UpkeepShared& upkeep) noexcept {
    const bool last = upkeep.task == UpkeepShared::kRewrite;
    upkeep.task = last ? UpkeepShared::kNone : static_cast<UpkeepShared::Task>(upkeep.task + 1);
}

void repair(UpkeepShared& upkeep) {
    static Query query("SELECT locked FROM prompt_cache._repair_triggers()");
    spi_connect();
    query.run(nullptr, nullptr, false);
    upkeep.again |= DatumGetInt32(*result_datum(0, 1)) > 0;
    SPI_finish();
    next_task(upkeep);
}

void compact(UpkeepShared& upkeep) {
    static Query query("SELECT after_tag, after_salt FROM prompt_cache._compact_nonces($1, $2)",
                       {INT8OID, INT8OID});
    if (!upkeep.wants_compact) {
        next_task(upkeep);
        return;
    }
    const Datum values[] = {Int64GetDatum(upkeep.tag), Int64GetDatum(upkeep.salt)};
    spi_connect();
    query.run(values, nullptr, false);
    const auto tag = result_datum(0, 1);
    const auto salt = result_datum(0, 2);
    upkeep.rows += kNonceSlice;
    if (tag && salt) {
        upkeep.tag = DatumGetInt64(*tag);
        upkeep.salt = DatumGetInt64(*salt);
    } else {
        upkeep.compacted = true;
        upkeep.table_rows = upkeep.rows;
        next_task(upkeep);
    }
    SPI_finish();
}

void expire(UpkeepShared& upkeep) {
    static Query query("SELECT prompt_cache._expire_rows()");
    spi_connect();
    query.run(nullptr, nullptr, false);
    const bool more = DatumGetBool(*result_datum(0, 1));
    SPI_finish();
    if (!more) next_task(upkeep);
}

void purge(UpkeepShared& upkeep, LeftOutLocal& left_out) {
    const bool free = upkeep.wants_purge && try_lock_sources();
    if (free) purge_slice(upkeep.purge_before, kPurgeSlice, left_out);
    if (!free || upkeep.purge_before == 0) next_task(upkeep);
}

bool ask(Query& query) {
    spi_connect();
    query.run(nullptr, nullptr, false);
    const bool answer = DatumGetBool(*result_datum(0, 1));
    SPI_finish();
    return answer;
}

// Not while nonces come: the table would only grow again, and their writers would wait.
void look_at_size(UpkeepShared& upkeep) {
    static Query bloated("SELECT prompt_cache._nonces_are_bloated()");
    if (upkeep.compacted && upkeep.idle) upkeep.compacted = upkeep.shrinks = ask(bloated);
    upkeep.again |= upkeep.compacted;
    next_task(upkeep);
}

void rewrite(UpkeepShared& upkeep) {
    static Query rewrite("SELECT prompt_cache._rewrite_nonces()");
    if (upkeep.shrinks && ask(rewrite)) upkeep.compacted = upkeep.again = false;
    if (upkeep.shrinks) changes_no_row();
    next_task(upkeep);
}

}  // namespace

UpkeepShared begin_upkeep(SavingDatabaseShared& database) noexcept {
    UpkeepShared upkeep = database.upkeep;
    if (!upkeep.done()) return upkeep;
    upkeep.task = UpkeepShared::kRepair;
    upkeep.again = upkeep.shrinks = false;
    upkeep.idle = memory::now() - database.nonces_at >= saving::naps(kIdleNaps);
    upkeep.wants_compact =
        database.nonces > std::max(kNoncesWorthAPass, upkeep.idle ? 0 : upkeep.table_rows / 10);
    if (upkeep.wants_compact) database.nonces = 0;
    upkeep.tag = upkeep.salt = INT64_MIN;
    upkeep.rows = 0;
    upkeep.wants_purge = database.rounds++ % kRoundsToPurge == 0;
    upkeep.purge_before = INT64_MAX;
    database.unclean = false;
    return upkeep;
}

void end_upkeep(SavingDatabaseShared& database, const UpkeepShared& upkeep) noexcept {
    database.upkeep = upkeep;
    if (!upkeep.done()) return;  // it stays due
    database.cleaned = memory::now();
    database.unclean |= upkeep.again || database.nonces > kNoncesWorthAPass;
}

void do_upkeep(UpkeepShared& upkeep, LeftOutLocal& left_out) {
    switch (upkeep.task) {
        case UpkeepShared::kNone:
            break;
        case UpkeepShared::kRepair:
            return repair(upkeep);
        case UpkeepShared::kCompact:
            return compact(upkeep);
        case UpkeepShared::kExpire:
            return expire(upkeep);
        case UpkeepShared::kPurge:
            return purge(upkeep, left_out);
        case UpkeepShared::kLookAtSize:
            return look_at_size(upkeep);
        case UpkeepShared::kFreeze:
            return next_task(upkeep);  // see freeze_nonces()
        case UpkeepShared::kRewrite:
            return rewrite(upkeep);
    }
}

void freeze_nonces() {
    if (!PortalContext)
        PortalContext =
            AllocSetContextCreate(TopMemoryContext, "prompt_cache vacuum", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(PortalContext);
    VacuumStmt* vacuum = makeNode(VacuumStmt);
    vacuum->options = list_make2(makeDefElem(pstrdup("freeze"), nullptr, -1),
                                 makeDefElem(pstrdup("skip_locked"), nullptr, -1));
    RangeVar* table = makeRangeVar(pstrdup(kSchema), pstrdup("tag_nonce"), -1);
    vacuum->rels = list_make1(makeVacuumRelation(table, InvalidOid, NIL));
    vacuum->is_vacuumcmd = true;
    ExecVacuum(make_parsestate(nullptr), vacuum, true);
    MemoryContextSwitchTo(before);
    MemoryContextReset(PortalContext);
}

void pass_over(UpkeepShared& upkeep) noexcept {
    upkeep.again = true;
    next_task(upkeep);
}

}  // namespace prompt_cache
