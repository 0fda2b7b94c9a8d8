// explain(): what a lookup would do now, and why. It decides with the very functions of a lookup and then
// does nothing. Monitoring roles may call it, and may read no row: what a build says is not shown.
#include "cache/layer.hpp"
#include "cache/lookup.hpp"
#include "cache/memory.hpp"
#include "cache/value.hpp"
#include "cache/writer.hpp"
#include "exports.hpp"
#include "pg/attempt.hpp"
#include "pg/settings.hpp"
#include "tier/redis_shared.hpp"

namespace prompt_cache {

namespace {

void say(ReturnSetInfo* result, const char* line) {
    Datum value = PointerGetDatum(cstring_to_text(line));
    bool isnull = false;
    tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
}

const char* describe(Verdict verdict) noexcept {
    switch (verdict) {
        case Verdict::kHit:
            return "hit";
        case Verdict::kNotThere:
            return "not there";
        case Verdict::kExpired:
            return "there, but past its time to live";
        case Verdict::kDirty:
            return "not used: this transaction has changed the source";
        case Verdict::kChanged:
            return "there, but changed since";
    }
    return "";
}

// One line a layer: from which tier, and what stands against the nearer ones. Gives the user's layer to go on
// with; nothing if it cannot be built.
std::optional<LayerLocal> explain_layer(LookupContext& context, ReturnSetInfo* result, core::LayerIndex layer,
                         std::string_view key, std::string_view user_key) {
    const bool stores = context.use_memory && context.attachment->sound();
    FoundEntry found;
    const Verdict verdict = context.use_memory
                                ? judge_entry(context, layer, EntryKey(kLayerTraits[layer].kind, key), found)
                                : Verdict::kNotThere;
    const char* memory_says = context.use_memory ? describe(verdict) : "not asked";
    std::optional<LayerLocal> value;
    const char* from = "memory";
    if (verdict == Verdict::kHit && context.use_memory) value = layer_from_memory(context, layer, key);
    const bool ask_redis = !value && verdict != Verdict::kDirty && redis::is_on() && may_use_stamps(context);
    if (ask_redis) {
        from = stores ? "Redis, then stored in memory" : "Redis";
        value = layer_from_redis(context, layer, key);
    }
    const char* redis_says = ask_redis && !value ? "; Redis: nothing current" : "";
    RowLocal row;
    const bool ask_table = !value && verdict != Verdict::kDirty && may_use_database(context);
    if (ask_table) {
        from = stores ? "the table, then stored in memory" : "the table";
        value = layer_from_row(context, row, layer, key, user_key);
    }
    if (!value) {
        from = stores && verdict != Verdict::kDirty ? "a build, then stored" : "a build, not stored";
        const ErrorData* error =
            attempt_quietly([&] { value = build_layer(*context.attachment, layer, key); }, is_cancel);
        if (error) {
            value.reset();
            from = psprintf("nowhere, it cannot be built: %s", error->message);
        } else if (stores && value->text.size() > memory::largest_value()) {
            from = psprintf("a build, not stored, since it has %zu bytes and %zu are the most",
                            value->text.size(), memory::largest_value());
        }
    } else {
        row.read = false;  // nothing stands against the table
    }
    const char* table_says = !ask_table || !row.read ? ""
                             : !row.row              ? "; table: no row"
                                                     : "; table: the newest row is of before a change";
    const char* quoted =
        layer == core::kApplicationLayer ? "" : psprintf(" \"%s\"", pnstrdup(key.data(), key.size()));
    say(result, psprintf("%s layer%s: from %s (memory: %s%s%s)", kLayerTraits[layer].name, quoted, from,
                         memory_says, redis_says, table_says));
    return value;
}

}  // namespace

PC_FUNCTION(pc_explain) {
    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    LookupContext context = open_lookup();
    KeyBuffer buffer;
    const std::string_view key = canonical_key(context.attachment->user_key(),
                                               {.number = {}, .text = view_of(PG_GETARG_TEXT_PP(0))}, buffer);

    if (context.bypass != Bypass::kNone)
        say(result, psprintf("the cache is bypassed: %s", describe(context.bypass)));
    else
        say(result,
            settings::memory ? "the cache is used" : "memory is not read: prompt_cache.memory is off");
    if (context.judge.by == Judge::By::kStamps)
        say(result, "in recovery: entries are proved by the stamps that this snapshot sees");
    if (!context.attachment->sound())
        say(result,
            "nothing is stored: a trigger is missing or not ENABLE ALWAYS (see prompt_cache.health())");
    else if (context.judge.by != Judge::By::kNothing && !may_use_database(context))
        say(result, settings::database
                        ? "the table is not read: a source is unlogged or has just been redefined"
                        : "the table is not read: prompt_cache.database is off");
    if (redis_memory && redis_config().on && !redis::is_on())
        say(result, "Redis is left alone after failures (see prompt_cache.health())");

    const std::optional<LayerLocal> user = explain_layer(context, result, core::kUserLayer, key, key);
    if (!user) {
        say(result, "the other layers are not looked up");
    } else if (!user->found) {
        say(result, "there is no such user: the prompt is NULL");
    } else {
        if (user->pointer)
            explain_layer(context, result, core::kTenantLayer, *user->pointer, key);
        else
            say(result, "tenant layer: none");
        explain_layer(context, result, core::kApplicationLayer, {}, key);
    }
    close_lookup(context);
    return static_cast<Datum>(0);
}

PC_FUNCTION(pc_explain_value) {
    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("namespace and key must not be NULL")));
    const std::string_view key = view_of(PG_GETARG_TEXT_PP(1));
    ValueContext context = open_value_context(view_of(PG_GETARG_TEXT_PP(0)));
    const Namespace& space = *context.space;
    if (context.bypass != Bypass::kNone)
        say(result, psprintf("the cache is bypassed: %s", describe(context.bypass)));
    else if (!settings::memory)
        say(result, "memory is not read: prompt_cache.memory is off");
    else if (!context.use_memory)
        say(result, "the cache is not used: there are more namespaces than memory_size has room for");
    else
        say(result, "the cache is used");
    if (context.judge.by == Judge::By::kStamps)
        say(result, "in recovery: entries are proved by the stamps that this snapshot sees");
    if (!space.sound())
        say(result, "nothing is stored: a trigger of a watch is missing or not ENABLE ALWAYS, or another column has taken a name (see prompt_cache.health())");
    FoundEntry found;
    const Verdict verdict = context.use_memory ? judge_value(context, key, found) : Verdict::kNotThere;
    const char* memory_says = context.use_memory ? describe(verdict) : "not asked";
    const char* from = verdict == Verdict::kHit ? "memory"
                       : !space.has_builder()   ? "nowhere: there is no builder"
                       : context.use_memory && space.sound() && verdict != Verdict::kDirty ? "a build, then stored"
                                                                                           : "a build, not stored";
    say(result, psprintf("value \"%s\": from %s (memory: %s)", pnstrdup(key.data(), key.size()), from, memory_says));
    if (verdict == Verdict::kHit && found.has(kHasGap))
        say(result, "its builder has read what nothing watches: it is only as fresh as its time to live");
    if (verdict == Verdict::kHit && found.has(kPut)) say(result, "it was put by an application");
    close_value_context(context);
    return static_cast<Datum>(0);
}

}  // namespace prompt_cache
