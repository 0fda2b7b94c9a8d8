// What the views and health() show. Nothing here is on the way of a lookup.
#include "cache/judge.hpp"
#include "cache/layer.hpp"
#include "cache/memory.hpp"
#include "cache/saving.hpp"
#include "cache/transaction.hpp"
#include "exports.hpp"
#include "pg/catalog.hpp"
#include "pg/snapshot.hpp"

extern "C" {
#include "access/visibilitymap.h"
#include "storage/bufmgr.h"
#include "utils/json.h"
#include "utils/jsonb.h"
}

namespace prompt_cache {

namespace {

using core::Counter;

Tag tag_of(const memory::ListedEntry& listed) {
    return layer_tag(layer_of(listed.entry.header.kind), {listed.key, listed.entry.header.key_length});
}

bool is_valid(const Judge& judge, const memory::ListedEntry& listed) {
    return listed.entry.header.expires > memory::now() &&
           agrees(judge, listed.entry, 0, [&] { return tag_of(listed); }) &&
           agrees(judge, listed.entry, 1, [] { return Tag(TagKind::kAll); });
}

}  // namespace

PC_FUNCTION(pc_stats) {
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    if (!shared) return static_cast<Datum>(0);
    const core::StatisticsShared& statistics = shared.control->statistics;
    const memory::Usage usage = memory::usage();
    const auto sum = [&](Counter counter) {
        return Int64GetDatum(static_cast<std::int64_t>(statistics.sum(counter)));
    };
    Datum values[] = {PointerGetDatum(make_text("prompt")),
                      Int64GetDatum(static_cast<std::int64_t>(usage.entries)),
                      Int64GetDatum(static_cast<std::int64_t>(usage.bytes)),
                      sum(Counter::kHitsMemory),
                      sum(Counter::kHitsDatabase),
                      sum(Counter::kBuiltCalls),
                      sum(Counter::kBuilds),
                      sum(Counter::kBuildMicros),
                      sum(Counter::kEvictions),
                      sum(Counter::kExpirations),
                      sum(Counter::kInvalidations),
                      sum(Counter::kBypasses),
                      sum(Counter::kErrors),
                      TimestampTzGetDatum(statistics.reset_at.load(std::memory_order_relaxed))};
    bool nulls[std::size(values)] = {};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    return static_cast<Datum>(0);
}

PC_FUNCTION(pc_entries) {
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    if (!shared) return static_cast<Datum>(0);

    // Ages are counted on a clock that nobody can set; shown are times of the wall clock.
    const std::int64_t wall = GetCurrentTimestamp() - memory::now();
    auto* listed = static_cast<memory::ListedEntry*>(palloc(sizeof(memory::ListedEntry)));
    const Judge judge = open_judge();
    memory::ListCursor cursor;
    while (memory::next_entry(cursor, *listed)) {
        CHECK_FOR_INTERRUPTS();
        const EntryShared& header = listed->entry.header;
        const bool endless = header.expires == INT64_MAX;
        Datum values[] = {PointerGetDatum(make_text("prompt")),
                          PointerGetDatum(make_text({listed->key, header.key_length})),
                          Int64GetDatum(listed->bytes),
                          TimestampTzGetDatum(wall + header.created),
                          TimestampTzGetDatum(endless ? 0 : wall + header.expires),
                          Int32GetDatum(listed->frequency),
                          BoolGetDatum(is_valid(judge, *listed)),
                          PointerGetDatum(make_text(kLayerTraits[layer_of(header.kind)].name))};
        bool nulls[std::size(values)] = {};
        nulls[4] = endless;
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return static_cast<Datum>(0);
}

PC_FUNCTION(pc_memory_status) {
    if (!shared) PG_RETURN_NULL();
    const memory::Usage usage = memory::usage();
    char* json = psprintf(
        "{\"state\": \"on\", \"bytes\": %llu, \"entries\": %llu, \"size\": %llu, \"fixed\": %llu, "
        "\"hits_behind\": %llu}",
        static_cast<unsigned long long>(usage.bytes), static_cast<unsigned long long>(usage.entries),
        static_cast<unsigned long long>(usage.total_bytes),
        static_cast<unsigned long long>(usage.fixed_bytes),
        static_cast<unsigned long long>(shared.control->statistics.sum(Counter::kHitsBehind)));
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

PC_FUNCTION(pc_worker_status) {
    if (!shared) PG_RETURN_NULL();
    LWLockAcquire(shared.saving_lock, LW_SHARED);
    const bool launcher = shared.saving->launcher != 0;
    const SavingDatabaseShared* place = saving::find(MyDatabaseId);
    const bool full = !place && !saving::find(InvalidOid);
    const SavingDatabaseShared here = place ? *place : SavingDatabaseShared{};
    LWLockRelease(shared.saving_lock);
    const char* state = !launcher      ? "off"
                        : full         ? "no place"
                        : here.refused ? "no slot"
                        : here.working ? "running"
                                       : "idle";
    StringInfoData json;
    initStringInfo(&json);
    appendStringInfo(&json, "{\"state\": \"%s\", \"launcher\": %s, \"saved\": %llu, \"problems\": [", state,
                     launcher ? "true" : "false", static_cast<unsigned long long>(here.written));
    const char* separator = "";
    for (const char* problem : here.problem) {
        if (problem[0] == '\0') continue;
        appendStringInfoString(&json, separator);
        escape_json(&json, problem);
        separator = ", ";
    }
    appendStringInfoString(&json, "]}");
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

PC_FUNCTION(pc_nonces_are_frozen) {
    Relation nonces = table_open(own_relation(OwnRelation::kTagNonce), AccessShareLock);
    BlockNumber visible = 0;
    BlockNumber frozen = 0;
    visibilitymap_count(nonces, &visible, &frozen);
    const bool all = frozen == RelationGetNumberOfBlocks(nonces);
    table_close(nonces, AccessShareLock);
    PG_RETURN_BOOL(all);
}

PC_FUNCTION(pc_stats_reset) {
    if (!shared) PG_RETURN_BOOL(false);
    shared.control->statistics.reset(GetCurrentTimestamp());
    PG_RETURN_BOOL(true);
}

PC_FUNCTION(pc_ddl_seen) {
    // Being called has loaded the library, whose PRE_COMMIT callback does the rest.
    PG_RETURN_NULL();
}

#ifdef PROMPT_CACHE_TEST
PC_FUNCTION(pc_consistent) {
    PG_RETURN_BOOL(!shared || memory::consistent());
}
#endif

}  // namespace prompt_cache
