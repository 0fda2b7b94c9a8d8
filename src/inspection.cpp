// What the views and health() show. Nothing here is on the way of a lookup.
#include "cache/judge.hpp"
#include "cache/layer.hpp"
#include "cache/memory.hpp"
#include "cache/saving.hpp"
#include "cache/transaction.hpp"
#include "cache/value.hpp"
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

std::string_view key_of(const memory::ListedEntry& listed) {
    return {listed.key, listed.entry.header.key_length};
}

bool is_value(const memory::ListedEntry& listed) {
    return listed.entry.header.kind == EntryKind::kValue;
}

// The namespace whose value it is.
const char* namespace_of(const memory::ListedEntry& listed) {
    return is_value(listed) ? shared.partitions[listed.entry.header.partition].name : "prompt";
}

Tag tag_of(const memory::ListedEntry& listed) {
    if (is_value(listed)) return entry_tag(namespace_of(listed), key_of(listed));
    return layer_tag(layer_of(listed.entry.header.kind), key_of(listed));
}

bool is_valid(const Judge& judge, const memory::ListedEntry& listed) {
    return listed.entry.header.expires > memory::now() &&
           agrees(judge, listed.entry, 0, [&] { return tag_of(listed); }) &&
           agrees(judge, listed.entry, 1, [] { return Tag(TagKind::kAll); }) &&
           (!is_value(listed) || further_agree(judge, listed.entry));
}

bool is_of_here(const PartitionShared& partition) {
    return partition.database == MyDatabaseId;
}

void add_statistics(ReturnSetInfo* result, const char* name, unsigned partition) {
    const core::StatisticsShared& statistics = shared.partitions[partition].statistics;
    const memory::PartitionUsage usage = memory::usage_of(partition);
    const auto sum = [&](Counter counter) {
        return Int64GetDatum(static_cast<std::int64_t>(statistics.sum(counter)));
    };
    Datum values[] = {PointerGetDatum(make_text(name)),
                      Int64GetDatum(static_cast<std::int64_t>(usage.entries)),
                      Int64GetDatum(static_cast<std::int64_t>(usage.bytes)),
                      sum(Counter::kHitsMemory),
                      sum(Counter::kHitsRedis),
                      sum(Counter::kHitsDatabase),
                      sum(Counter::kBuiltCalls),
                      sum(Counter::kNotFound),
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
}

}  // namespace

PC_FUNCTION(pc_stats) {
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    if (!shared) return static_cast<Datum>(0);
    add_statistics(result, "prompt", 0);
    for (unsigned i = 1; i < shared.partition_count; i++)
        if (is_of_here(shared.partitions[i])) add_statistics(result, shared.partitions[i].name, i);
    return static_cast<Datum>(0);
}

namespace {

void add_gap(ReturnSetInfo* result, const char* name, const GapShared& gap) {
    const bool is_relation = gap.kind == GapShared::Kind::kRelation;
    const CalledFunction called = gap.kind == GapShared::Kind::kKeyword
                                      ? CalledFunction{.keyword = static_cast<SQLValueFunctionOp>(gap.object)}
                                      : CalledFunction{.function = gap.object};
    Datum values[] = {PointerGetDatum(make_text(name)),
                      Int32GetDatum(static_cast<std::int32_t>(gap.wiring)),
                      ObjectIdGetDatum(gap.object),
                      PointerGetDatum(make_text(is_relation ? "" : name_of(called))),
                      PointerGetDatum(make_text(describe(gap.input))),
                      BoolGetDatum(!is_of_caller(gap.input))};
    const bool nulls[] = {false, false, !is_relation, is_relation, is_relation, false};
    static_assert(std::size(values) == std::size(nulls));
    tuplestore_putvalues(result->setResult, result->setDesc, values, const_cast<bool*>(nulls));
}

}  // namespace

PC_FUNCTION(pc_gaps) {
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    if (!shared) return static_cast<Datum>(0);
    for (unsigned i = 1; i < shared.partition_count; i++) {
        LWLockAcquire(shared.space, LW_SHARED);
        const PartitionShared& partition = shared.partitions[i];
        const Oid database = partition.database;
        char name[PartitionShared::kNameBytes];
        memcpy(name, partition.name, sizeof(name));
        GapShared gaps[PartitionShared::kMaxGaps];
        const std::uint32_t count = partition.gap_count;
        memcpy(gaps, partition.gap, sizeof(gaps));
        LWLockRelease(shared.space);
        for (std::uint32_t gap = 0; gap < count && database == MyDatabaseId; gap++) add_gap(result, name, gaps[gap]);
    }
    return static_cast<Datum>(0);
}

PC_FUNCTION(pc_partitions) {
    if (!shared) PG_RETURN_INT64(INT64_MAX / 2);
    std::int64_t count = 0;
    for (unsigned i = 1; i < shared.partition_count; i++) {
        const PartitionShared& partition = shared.partitions[i];
        count += is_of_here(partition) || partition.database == InvalidOid || partition.units == 0;
    }
    PG_RETURN_INT64(count);
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
        Datum values[] = {PointerGetDatum(make_text(namespace_of(*listed))),
                          PointerGetDatum(make_text(key_of(*listed))),
                          Int64GetDatum(listed->bytes),
                          TimestampTzGetDatum(wall + header.created),
                          TimestampTzGetDatum(endless ? 0 : wall + header.expires),
                          Int32GetDatum(listed->frequency),
                          BoolGetDatum(is_valid(judge, *listed)),
                          PointerGetDatum(make_text(kLayerTraits[layer_of(header.kind)].name))};
        bool nulls[std::size(values)] = {};
        nulls[4] = endless;
        nulls[7] = is_value(*listed);
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
        static_cast<unsigned long long>(shared.partitions[0].statistics.sum(Counter::kHitsBehind)));
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
    const std::string_view name = PG_ARGISNULL(0) ? std::string_view{} : view_of(PG_GETARG_TEXT_PP(0));
    for (unsigned i = 0; i < shared.partition_count; i++) {
        PartitionShared& partition = shared.partitions[i];
        const bool is_asked_for = i == 0 ? name == "prompt" : is_of_here(partition) && name == partition.name;
        if (is_asked_for || (PG_ARGISNULL(0) && (i == 0 || is_of_here(partition))))
            partition.statistics.reset(GetCurrentTimestamp());
    }
    PG_RETURN_BOOL(true);
}

#ifdef PROMPT_CACHE_TEST
PC_FUNCTION(pc_consistent) {
    PG_RETURN_BOOL(!shared || memory::consistent());
}

PC_FUNCTION(pc_longest_chain) {
    PG_RETURN_INT32(shared ? static_cast<std::int32_t>(memory::longest_chain()) : 0);
}

// Holds back the messages of all who commit, and of replay, for so many milliseconds: what they have done can be seen
// meanwhile.
PC_FUNCTION(pc_hold_messages) {
    LWLockAcquire(SInvalWriteLock, LW_EXCLUSIVE);
    const std::int64_t until = memory::now() + PG_GETARG_INT32(0) * std::int64_t{1000};
    while (memory::now() < until) pg_usleep(1000);  // any signal ends a sleep
    LWLockRelease(SInvalWriteLock);
    PG_RETURN_BOOL(true);
}
#endif

}  // namespace prompt_cache
