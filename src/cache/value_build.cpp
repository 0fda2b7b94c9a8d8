#include "cache/value_build.hpp"

#include "pg/as_owner.hpp"
#include "pg/attempt.hpp"
#include "pg/pause.hpp"
#include "pg/query.hpp"

extern "C" {
#include "catalog/pg_collation.h"
}

namespace prompt_cache {

namespace {

// Called for every message from inside of the build: for errors too that the builder catches, to give something else
// instead, which must not be kept for everybody.
void say_what_is_built(void* argument) {
    auto* build = static_cast<BuildLocal*>(argument);
    if (is_of_the_moment(geterrcode())) build->exact = false;
    errcontext("building \"%.*s\" of namespace \"%s\" for prompt_cache", static_cast<int>(build->key.size()),
               build->key.data(), build->space.name().data());
}

// By its OID: a query would look its name up, which may have become another function's.
text* run_builder(const Namespace& space, std::string_view key, MemoryContext context) {
    const BuilderFunction builder = space.trusted_builder();
    const AsOwnerLocal before = begin_as_builder(builder.owner, builder.search_path);
    MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "prompt_cache builder", ALLOCSET_DEFAULT_SIZES);
    MemoryContext outside = MemoryContextSwitchTo(scratch);
    FmgrInfo function;
    fmgr_info_cxt(space.builder(), &function, scratch);
    LOCAL_FCINFO(call, 1);
    InitFunctionCallInfoData(*call, &function, 1, DEFAULT_COLLATION_OID, nullptr, nullptr);
    call->args[0].value = PointerGetDatum(make_text(key));
    call->args[0].isnull = false;
    PgStat_FunctionCallUsage usage;
    pgstat_init_function_usage(call, &usage);
    const Datum result = FunctionCallInvoke(call);
    pgstat_end_function_usage(&usage, true);
    MemoryContextSwitchTo(context);
    text* value = call->isnull ? nullptr : DatumGetTextPCopy(result);
    MemoryContextSwitchTo(outside);
    MemoryContextDelete(scratch);
    end_as_owner(before);
    return value;
}

}  // namespace

text* build_value(ValueContext& context, std::string_view key, BuildLocal& build) {
    PC_PAUSE("wiring|run");
    MemoryContext result = CurrentMemoryContext;
    build.key = key;
    build.snapshot = identity_of(context.judge.snapshot);
    build.uncached = context.uncached;
    build.exact = build.exact && has_heard_of_ddl(context.judge);
    text* volatile value = nullptr;
    ErrorContextCallback callback{error_context_stack, say_what_is_built, &build};
    building::begin(build);
    PG_TRY();
    {
        error_context_stack = &callback;
        value = run_builder(build.space, key, result);
        error_context_stack = callback.previous;
    }
    PG_FINALLY();
    { building::end(build); }
    PG_END_TRY();
    return value;
}

}  // namespace prompt_cache
