// verify(): the promise, checked on a running server. A sample of what every tier holds is rebuilt under one
// snapshot; whatever differs is a row of the result, so the result is always empty.
#include "cache/layer.hpp"
#include "cache/lookup.hpp"
#include "cache/memory.hpp"
#include "cache/value.hpp"
#include "cache/writer.hpp"
#include "exports.hpp"
#include "pg/attempt.hpp"
#include "pg/query.hpp"
#include "tier/durable.hpp"

namespace prompt_cache {

namespace {

constexpr std::int32_t kMostSamples = 1000000;

void report(ReturnSetInfo* result, std::string_view key, const char* tier, std::string_view name = "prompt") {
    Datum values[] = {PointerGetDatum(make_text(name)), PointerGetDatum(make_text(key)),
                      PointerGetDatum(make_text(tier))};
    bool nulls[std::size(values)] = {};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

bool same(const LayerLocal& a, const LayerLocal& b, bool is_user) {
    return a.text == b.text && (!is_user || (a.found == b.found && a.pointer == b.pointer));
}

// A rebuild whose error is a warning: a row that cannot be built is no difference, and no reason to stop.
template <typename Build>
bool build_or_warn(std::string_view key, Build build) {
    const ErrorData* error = attempt_quietly(build, is_cancel);
    if (error)
        ereport(WARNING, (errmsg("\"%.*s\" cannot be rebuilt: %s", static_cast<int>(key.size()), key.data(), error->message),
                          errdetail_log("%s", error->detail_log)));
    return !error;
}

struct Pick {
    EntryKind kind;
    std::string_view key;
    std::string_view name;  // of a value's namespace
};

// One entry of memory, and of Redis too, if a lookup under this snapshot would use it.
void verify_entry(LookupContext& context, const Pick& pick, ReturnSetInfo* result) {
    const core::LayerIndex layer = layer_of(pick.kind);
    if (is_dirty(layer_tag(layer, pick.key))) return;
    const std::optional<LayerLocal> cached = layer_from_memory(context, layer, pick.key);
    context.redis = {};  // each entry is a lookup of its own
    const std::optional<LayerLocal> remote = layer_from_redis(context, layer, pick.key);
    LayerLocal built;
    if ((!cached && !remote) ||
        !build_or_warn(pick.key, [&] { built = build_layer(*context.attachment, layer, pick.key); }))
        return;
    const bool is_user = layer == core::kUserLayer;
    if (cached && !same(*cached, built, is_user)) report(result, pick.key, "memory");
    if (remote && !same(*remote, built, is_user)) report(result, pick.key, "redis");
}

// A value of a namespace. Not what a builder has read unwatched: that was never promised. Without a builder there is nothing
// to compare with.
void verify_value(const Pick& pick, ReturnSetInfo* result) {
    build_or_warn(pick.key, [&] {
        ValueContext context = open_value_context(pick.name);
        context.is_walk = true;
        const Namespace space = copy_namespace(*context.space);
        context.space = &space;
        FoundEntry found;
        const bool promised = space.has_builder() && context.use_memory &&
                              judge_value(context, pick.key, found) == Verdict::kHit && !found.has(kHasGap);
        const Value cached = promised ? get_value(context, pick.key) : Value{};
        const text* built = cached.found ? rebuild_value(context, pick.key) : nullptr;
        const bool differs = (cached.value == nullptr) != (built == nullptr) ||
                             (built && view_of(cached.value) != view_of(built));
        if (cached.found && differs) report(result, pick.key, "memory", pick.name);
        close_value_context(context);
    });
}

// The newest row of a user, if all its stamps are what this snapshot sees.
void verify_row(LookupContext& context, std::string_view key, ReturnSetInfo* result) {
    LayersLocal built;
    if (!build_or_warn(key, [&] { built = build_layers(context, key); })) return;
    const LayerLocal& user = built.layer[core::kUserLayer];
    for (unsigned i = 0; i < core::kLayers; i++) {
        const auto layer = static_cast<core::LayerIndex>(i);
        if (layer == core::kTenantLayer && !user.pointer) continue;
        if (layer != core::kUserLayer && !user.found) continue;  // was not built
        const std::string_view layer_key = layer == core::kUserLayer     ? key
                                           : layer == core::kTenantLayer ? *user.pointer
                                                                         : std::string_view{};
        if (is_dirty(layer_tag(layer, layer_key))) continue;  // a lookup would not use it
        RowLocal row;
        const std::optional<LayerLocal> saved = layer_from_row(context, row, layer, layer_key, key);
        if (saved && !same(*saved, built.layer[layer], layer == core::kUserLayer)) {
            report(result, key, "database");
            return;
        }
    }
}

// `most` entries of this database, each with the same chance, in one pass (reservoir sampling, Vitter's
// algorithm R).
std::span<const Pick> pick_entries(std::uint32_t most) {
    auto* picks = static_cast<Pick*>(palloc(most * sizeof(Pick)));
    auto* listed = static_cast<memory::ListedEntry*>(palloc(sizeof(memory::ListedEntry)));
    std::uint64_t seen = 0;
    memory::ListCursor cursor;
    while (memory::next_entry(cursor, *listed)) {
        CHECK_FOR_INTERRUPTS();
        std::uint64_t place = seen++;
        if (place >= most) place = pg_prng_uint64_range(&pg_global_prng_state, 0, seen - 1);
        if (place >= most) continue;
        const EntryShared& header = listed->entry.header;
        picks[place] = {header.kind, copy_into(CurrentMemoryContext, {listed->key, header.key_length}),
                        copy_into(CurrentMemoryContext, shared.partitions[header.partition].name)};
    }
    return {picks, static_cast<std::size_t>(std::min<std::uint64_t>(seen, most))};
}

}  // namespace

PC_FUNCTION(pc_verify) {
    const std::int32_t sample = PG_GETARG_INT32(0);
    if (sample <= 0 || sample > kMostSamples)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("sample must lie between 1 and %d", kMostSamples),
                        errhint("It is the number of entries of each tier to rebuild.")));
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    const auto most = static_cast<std::uint32_t>(sample);
    MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "prompt_cache verify", ALLOCSET_DEFAULT_SIZES);
    const auto with_scratch = [&](auto work) {
        CHECK_FOR_INTERRUPTS();
        MemoryContext before = MemoryContextSwitchTo(scratch);
        work();
        MemoryContextSwitchTo(before);
        MemoryContextReset(scratch);
    };
    const std::span<const Pick> picks = shared ? pick_entries(most) : std::span<const Pick>{};
    for (const Pick& pick : picks)
        if (pick.kind == EntryKind::kValue) with_scratch([&] { verify_value(pick, result); });
    const bool has_values = std::any_of(picks.begin(), picks.end(), [](const Pick& pick) { return pick.kind == EntryKind::kValue; });
    if (!has_values || is_attached()) {
        LookupContext context = open_lookup();
        if (context.use_memory)
            for (const Pick& pick : picks)
                if (pick.kind != EntryKind::kValue) with_scratch([&] { verify_entry(context, pick, result); });
        if (may_use_database(context))
            for (const std::string_view key : random_keys(most))
                if (fits(context.attachment->user_key(), key))
                    with_scratch([&] { verify_row(context, key, result); });
        close_lookup(context);
    }
    MemoryContextDelete(scratch);
    return static_cast<Datum>(0);
}

}  // namespace prompt_cache
