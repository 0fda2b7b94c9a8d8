// verify(): the promise, checked on a running server. A sample of what every tier holds is rebuilt under one
// snapshot; whatever differs is a row of the result, so the result is always empty.
#include "cache/layer.hpp"
#include "cache/lookup.hpp"
#include "cache/memory.hpp"
#include "cache/writer.hpp"
#include "exports.hpp"
#include "pg/query.hpp"
#include "tier/durable.hpp"

namespace prompt_cache {

namespace {

constexpr std::int32_t kMostSamples = 1000000;

void report(ReturnSetInfo* result, std::string_view key, const char* tier) {
    Datum values[] = {PointerGetDatum(make_text("prompt")), PointerGetDatum(make_text(key)),
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
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    volatile bool built = true;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        build();
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        ErrorData* error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        built = false;
        if (error->sqlerrcode == ERRCODE_QUERY_CANCELED) ReThrowError(error);
        ereport(WARNING, (errmsg("\"%.*s\" cannot be rebuilt: %s", static_cast<int>(key.size()), key.data(),
                                 error->message)));
        FreeErrorData(error);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return built;
}

struct Pick {
    core::LayerIndex layer;
    std::string_view key;
};

// One entry of memory, and of Redis too, if a lookup under this snapshot would use it.
void verify_entry(LookupContext& context, const Pick& pick, ReturnSetInfo* result) {
    if (is_dirty(layer_tag(pick.layer, pick.key))) return;
    const std::optional<LayerLocal> cached = layer_from_memory(context, pick.layer, pick.key);
    context.redis = {};  // each entry is a lookup of its own
    const std::optional<LayerLocal> remote = layer_from_redis(context, pick.layer, pick.key);
    LayerLocal built;
    if ((!cached && !remote) ||
        !build_or_warn(pick.key, [&] { built = build_layer(*context.attachment, pick.layer, pick.key); }))
        return;
    const bool is_user = pick.layer == core::kUserLayer;
    if (cached && !same(*cached, built, is_user)) report(result, pick.key, "memory");
    if (remote && !same(*remote, built, is_user)) report(result, pick.key, "redis");
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
        picks[place] = {layer_of(listed->entry.header.kind),
                        copy_into(CurrentMemoryContext, {listed->key, listed->entry.header.key_length})};
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
    LookupContext context = open_lookup();
    MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "prompt_cache verify", ALLOCSET_DEFAULT_SIZES);
    const auto with_scratch = [&](auto work) {
        CHECK_FOR_INTERRUPTS();
        MemoryContext before = MemoryContextSwitchTo(scratch);
        work();
        MemoryContextSwitchTo(before);
        MemoryContextReset(scratch);
    };
    if (context.use_memory)
        for (const Pick& pick : pick_entries(static_cast<std::uint32_t>(sample)))
            with_scratch([&] { verify_entry(context, pick, result); });
    if (may_use_database(context))
        for (const std::string_view key : random_keys(static_cast<std::uint32_t>(sample)))
            if (fits(context.attachment->user_key(), key))
                with_scratch([&] { verify_row(context, key, result); });
    MemoryContextDelete(scratch);
    close_lookup(context);
    return static_cast<Datum>(0);
}

}  // namespace prompt_cache
