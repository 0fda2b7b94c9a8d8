// verify(): the promise, checked on a running server. A sample of what every tier holds is rebuilt under one
// snapshot; whatever differs is a row of the result, so the result is always empty.
#include "cache/layer.hpp"
#include "cache/lookup.hpp"
#include "cache/memory.hpp"
#include "cache/writer.hpp"
#include "exports.hpp"
#include "tier/durable.hpp"

namespace prompt_cache {

namespace {

void report(ReturnSetInfo* result, std::string_view key, const char* tier) {
    Datum values[] = {PointerGetDatum(make_text("prompt")), PointerGetDatum(make_text(key)),
                      PointerGetDatum(make_text(tier))};
    bool nulls[std::size(values)] = {};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

bool same(const LayerLocal& a, const LayerLocal& b, bool is_user) {
    return a.text == b.text && (!is_user || (a.found == b.found && a.pointer == b.pointer));
}

// One entry of memory, if a lookup under this snapshot would use it.
void verify_entry(LookupContext& context, const memory::ListedEntry& listed, ReturnSetInfo* result) {
    const std::string_view key{listed.key, listed.entry.header.key_length};
    const core::LayerIndex layer = layer_of(listed.entry.header.kind);
    const std::optional<LayerLocal> cached = layer_from_memory(context, layer, key);
    if (cached && !same(*cached, build_layer(*context.attachment, layer, key), layer == core::kUserLayer))
        report(result, key, "memory");
}

// The newest row of a user, if all its stamps are what this snapshot sees.
void verify_row(LookupContext& context, std::string_view key, ReturnSetInfo* result) {
    const LayersLocal built = build_layers(context, key);
    for (unsigned i = 0; i < core::kLayers; i++) {
        const auto layer = static_cast<core::LayerIndex>(i);
        const LayerLocal& user = built.layer[core::kUserLayer];
        if (layer == core::kTenantLayer && !user.pointer) continue;
        if (layer != core::kUserLayer && !user.found) continue;   // was not built
        const std::string_view layer_key = layer == core::kUserLayer     ? key
                                           : layer == core::kTenantLayer ? *user.pointer
                                                                         : std::string_view{};
        if (is_dirty(layer_tag(layer, layer_key))) continue;   // a lookup would not use it
        RowLocal row;
        const std::optional<LayerLocal> saved = layer_from_row(context, row, layer, layer_key, key);
        if (saved && !same(*saved, built.layer[layer], layer == core::kUserLayer)) {
            report(result, key, "database");
            return;
        }
    }
}

}  // namespace

PC_FUNCTION(pc_verify) {
    const std::int64_t sample = PG_GETARG_INT32(0);
    if (sample <= 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("sample must be positive"),
                        errhint("It is the number of entries of each tier to rebuild.")));
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    LookupContext context = open_lookup();
    MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "prompt_cache verify", ALLOCSET_DEFAULT_SIZES);

    // Each entry with the chance that makes `sample` of them the likely number.
    const double chance = context.use_memory
                              ? static_cast<double>(sample) / static_cast<double>(memory::usage().entries + 1)
                              : 0;
    auto* listed = static_cast<memory::ListedEntry*>(palloc(sizeof(memory::ListedEntry)));
    memory::ListCursor cursor;
    while (chance > 0 && memory::next_entry(cursor, *listed)) {
        CHECK_FOR_INTERRUPTS();
        if (pg_prng_double(&pg_global_prng_state) >= chance) continue;
        MemoryContext before = MemoryContextSwitchTo(scratch);
        verify_entry(context, *listed, result);
        MemoryContextSwitchTo(before);
        MemoryContextReset(scratch);
    }

    if (may_use_database(context)) {
        const std::int64_t users = saved_keys();
        const double row_chance = static_cast<double>(sample) / static_cast<double>(users + 1);
        for (auto key = next_saved_key({}); key; key = next_saved_key(key)) {
            CHECK_FOR_INTERRUPTS();
            if (pg_prng_double(&pg_global_prng_state) >= row_chance ||
                !fits(context.attachment->user_key(), *key))
                continue;
            MemoryContext before = MemoryContextSwitchTo(scratch);
            verify_row(context, *key, result);
            MemoryContextSwitchTo(before);
            MemoryContextReset(scratch);
        }
    }
    MemoryContextDelete(scratch);
    close_lookup(context);
    return static_cast<Datum>(0);
}

}  // namespace prompt_cache
