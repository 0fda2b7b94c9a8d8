#include "cache/value_build.hpp"

#include "pg/as_owner.hpp"
#include "pg/attempt.hpp"
#include "pg/query.hpp"

extern "C" {
#include "utils/hsearch.h"
}

namespace prompt_cache {

namespace {

// SELECT builder($1), prepared once a backend for each builder: the plan cache follows whatever is redefined.
SPIPlanPtr plan_of(const char* call) {
    struct Cell {
        char call[512];
        SPIPlanPtr plan;
    };
    static HTAB* plans = nullptr;
    if (!plans) {
        HASHCTL control{};
        control.keysize = sizeof(Cell::call);
        control.entrysize = sizeof(Cell);
        plans = hash_create("prompt_cache builders", 16, &control, HASH_ELEM | HASH_STRINGS);
    }
    bool found = false;
    auto* cell = static_cast<Cell*>(hash_search(plans, call, HASH_FIND, &found));
    if (found) return cell->plan;
    Oid argument = TEXTOID;
    SPIPlanPtr plan = SPI_prepare(call, 1, &argument);
    if (!plan || SPI_keepplan(plan) != 0)
        elog(ERROR, "prompt_cache: cannot prepare the builder: %s", SPI_result_code_string(SPI_result));
    cell = static_cast<Cell*>(hash_search(plans, call, HASH_ENTER, &found));
    cell->plan = plan;
    return plan;
}

// Called for every message from inside of the build: for errors too that the builder catches, to give something else
// instead, which must not be kept for everybody.
void say_what_is_built(void* argument) {
    auto* build = static_cast<BuildLocal*>(argument);
    if (is_of_the_moment(geterrcode())) build->exact = false;
    errcontext("building \"%.*s\" of namespace \"%s\" for prompt_cache", static_cast<int>(build->key.size()),
               build->key.data(), build->space.name().data());
}

text* run_builder(const Namespace& space, std::string_view key, MemoryContext context) {
    const AsOwnerLocal before = begin_as_builder(space.owner(), space.search_path());
    spi_connect();
    Datum argument = PointerGetDatum(make_text(key));
    const int result = SPI_execute_plan(plan_of(space.call()), &argument, nullptr, true, 1);
    if (result != SPI_OK_SELECT || SPI_processed != 1)
        elog(ERROR, "prompt_cache: builder failed: %s", SPI_result_code_string(result));
    text* value = nullptr;
    if (const auto datum = result_datum(0, 1)) {
        MemoryContext inside = MemoryContextSwitchTo(context);
        value = DatumGetTextPCopy(*datum);
        MemoryContextSwitchTo(inside);
    }
    SPI_finish();
    end_as_owner(before);
    return value;
}

}  // namespace

text* build_value(ValueContext& context, std::string_view key, BuildLocal& build) {
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
