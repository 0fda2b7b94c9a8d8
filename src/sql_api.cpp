// What SQL calls to read, invalidate and save prompts: check the arguments, one call, return.
#include "cache/layer.hpp"
#include "cache/lookup.hpp"
#include "cache/memory.hpp"
#include "cache/save.hpp"
#include "cache/writer.hpp"
#include "exports.hpp"
#include "pg/attempt.hpp"

namespace prompt_cache {

namespace {

KeyInput number_argument(FunctionCallInfo fcinfo) {
    return {.number = PG_GETARG_INT64(0), .text = {}};
}
KeyInput text_argument(FunctionCallInfo fcinfo) {
    return {.number = {}, .text = view_of(PG_GETARG_TEXT_PP(0))};
}

Datum text_result(FunctionCallInfo fcinfo, text* value) {
    if (!value) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(value);
}

// (prompt, cached, source). The row type is looked up once a query.
Datum answer_row(FunctionCallInfo fcinfo, const PromptAnswer& answer) {
    auto* descriptor = static_cast<TupleDesc>(fcinfo->flinfo->fn_extra);
    if (!descriptor) {
        MemoryContext before = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
        if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
            elog(ERROR, "prompt_cache: get_or_build must return a row");
        descriptor = BlessTupleDesc(descriptor);
        MemoryContextSwitchTo(before);
        fcinfo->flinfo->fn_extra = descriptor;
    }
    Datum values[] = {PointerGetDatum(answer.prompt), BoolGetDatum(answer.source != Source::kBuilt),
                      PointerGetDatum(make_text(name_of(answer.source)))};
    bool nulls[] = {answer.prompt == nullptr, false, false};
    return HeapTupleGetDatum(heap_form_tuple(descriptor, values, nulls));
}

// Invalidations are writes, though no row changes: they need an id and leave a nonce.
Datum invalidate(const char* command, TagKind kind, const KeyInput& input) {
    PreventCommandIfReadOnly(command);
    PreventCommandIfParallelMode(command);
    LookupContext context = open_lookup();
    const KeyType type =
        kind == TagKind::kUser ? context.attachment->user_key() : context.attachment->tenant_key();
    close_lookup(context);
    if (type == KeyType::kNone)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("no tenants table is attached"),
                 errhint("Call prompt_cache.attach() with a tenants table.")));
    KeyBuffer buffer;
    note_change(Tag(kind, canonical_key(type, input, buffer)));
    PG_RETURN_BOOL(true);
}

}  // namespace

PC_FUNCTION(pc_prompt) {
    return text_result(fcinfo, get_or_build(number_argument(fcinfo)).prompt);
}
PC_FUNCTION(pc_prompt_key) {
    return text_result(fcinfo, get_or_build(text_argument(fcinfo)).prompt);
}
PC_FUNCTION(pc_get_or_build) {
    return answer_row(fcinfo, get_or_build(number_argument(fcinfo)));
}
PC_FUNCTION(pc_get_or_build_key) {
    return answer_row(fcinfo, get_or_build(text_argument(fcinfo)));
}
PC_FUNCTION(pc_build) {
    return text_result(fcinfo, build_prompt(number_argument(fcinfo)));
}
PC_FUNCTION(pc_build_key) {
    return text_result(fcinfo, build_prompt(text_argument(fcinfo)));
}

PC_FUNCTION(pc_invalidate_user) {
    return invalidate("prompt_cache.invalidate_user()", TagKind::kUser, number_argument(fcinfo));
}
PC_FUNCTION(pc_invalidate_user_key) {
    return invalidate("prompt_cache.invalidate_user_key()", TagKind::kUser, text_argument(fcinfo));
}
PC_FUNCTION(pc_invalidate_tenant) {
    return invalidate("prompt_cache.invalidate_tenant()", TagKind::kTenant, number_argument(fcinfo));
}
PC_FUNCTION(pc_invalidate_tenant_key) {
    return invalidate("prompt_cache.invalidate_tenant_key()", TagKind::kTenant, text_argument(fcinfo));
}

PC_FUNCTION(pc_clear) {
    if (!RecoveryInProgress()) {
        PreventCommandIfReadOnly("prompt_cache.clear()");
        note_change(Tag(TagKind::kAll));
    }
    PG_RETURN_INT64(shared ? memory::drop_database(MyDatabaseId) : 0);
}

PC_FUNCTION(pc_flush) {
    PreventCommandIfReadOnly("prompt_cache.flush()");
    PG_RETURN_INT64(save_all());
}

PC_FUNCTION(pc_purge) {
    PG_RETURN_INT64(purge_gone());
}

// Who may call it need not be one who may read prompts.
PC_FUNCTION(pc_warm_user) {
    const bool named = PG_GETARG_BOOL(1);
    LookupContext context = open_lookup();
    const KeyInput input = text_argument(fcinfo);
    bool warm = false;
    if (named || fits(context.attachment->user_key(), input.text)) {
        KeyBuffer buffer;
        const std::string_view key = canonical_key(context.attachment->user_key(), input, buffer);
        const ErrorData* error = attempt_quietly([&] {
            collect_layers(context, key);
            const auto layers = context.use_memory ? layers_in_memory(context, key) : std::nullopt;
            warm = layers && layers->layer[core::kUserLayer].found;
        });
        if (error)
            ereport(named ? ERROR : WARNING,
                    (errcode(error->sqlerrcode),
                     errmsg("the prompt of user \"%.*s\" was not brought into memory: %s", static_cast<int>(key.size()),
                            key.data(), error->message),
                     errdetail_log("%s", error->detail_log),
                     errhint("SELECT prompt_cache.build_key(%s);", quote_literal_cstr(pnstrdup(key.data(), key.size())))));
    }
    close_lookup(context);
    PG_RETURN_BOOL(warm);
}

}  // namespace prompt_cache
