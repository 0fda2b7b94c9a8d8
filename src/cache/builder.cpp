#include "cache/builder.hpp"

#include "pg/as_owner.hpp"
#include "pg/attempt.hpp"
#include "pg/fixed_settings.hpp"
#include "pg/query.hpp"

extern "C" {
#include "parser/analyze.h"
}

namespace prompt_cache {

namespace {

// Plans of this backend; they belong to one version of the wiring and run as one owner each.
struct PlansLocal {
    struct Cell {
        SPIPlanPtr plan = nullptr;
        char table[2 * NAMEDATALEN * 2 + 6] = {};  // the name it was prepared with, qualified and quoted
    };
    std::uint64_t version = 0;
    Cell cell[kBuilderQueries];
} plans_local;

Oid type_of(KeyType type) {
    switch (type) {
        case KeyType::kInteger:
            return INT8OID;
        case KeyType::kUuid:
            return UUIDOID;
        default:
            return TEXTOID;
    }
}

std::int64_t parse_integer(std::string_view text) {
    return DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(pnstrdup(text.data(), text.size()))));
}

Datum parse_uuid(std::string_view text) {
    return DirectFunctionCall1(uuid_in, CStringGetDatum(pnstrdup(text.data(), text.size())));
}

Datum key_datum(KeyType type, std::string_view key) {
    switch (type) {
        case KeyType::kInteger:
            return Int64GetDatum(parse_integer(key));
        case KeyType::kUuid:
            return parse_uuid(key);
        default:
            return PointerGetDatum(make_text(key));
    }
}

std::string_view print_integer(std::int64_t number, KeyBuffer& buffer) {
    return {buffer.bytes, static_cast<std::size_t>(pg_lltoa(number, buffer.bytes))};
}

void forget_plan(PlansLocal::Cell& cell) {
    if (cell.plan) SPI_freeplan(cell.plan);
    cell.plan = nullptr;
}

void forget_plans_of(std::uint64_t version) {
    if (plans_local.version == version) return;
    for (PlansLocal::Cell& cell : plans_local.cell) forget_plan(cell);
    plans_local.version = version;
}

}  // namespace

std::string_view canonical_key(KeyType type, const KeyInput& input, KeyBuffer& buffer) {
    if (type == KeyType::kInteger)
        return print_integer(input.number ? *input.number : parse_integer(input.text), buffer);
    if (input.number && type != KeyType::kText)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("the attached keys are of type uuid, not integer"),
                        errhint("Call the function whose name ends in _key with the key as text.")));
    if (input.number) return print_integer(*input.number, buffer);
    if (type == KeyType::kText) return input.text;
    char* printed = DatumGetCString(DirectFunctionCall1(uuid_out, parse_uuid(input.text)));
    const std::size_t length = std::min(strlen(printed), sizeof(buffer.bytes));
    memcpy(buffer.bytes, printed, length);
    pfree(printed);
    return {buffer.bytes, length};
}

bool fits(KeyType type, std::string_view key) {
    const auto all = [&](const char* allowed) { return key.find_first_not_of(allowed) == key.npos; };
    switch (type) {
        case KeyType::kInteger: {
            std::int64_t number = 0;
            const auto result = std::from_chars(key.data(), key.data() + key.size(), number);
            return result.ec == std::errc() && result.ptr == key.data() + key.size();
        }
        case KeyType::kUuid:
            return key.size() == 36 && all("0123456789abcdef-") && key[8] == '-' && key[13] == '-' &&
                   key[18] == '-' && key[23] == '-';
        default:
            return true;
    }
}

namespace {

struct Building {
    core::LayerIndex layer;
    std::string_view key;
    bool disturbed = false;  // by an error that says nothing of the data, which an expression's function may have caught
};

// Which of many builds an error in the log is about.
void say_what_is_built(void* argument) {
    constexpr const char* kNames[] = {"application", "tenant", "user"};
    auto* building = static_cast<Building*>(argument);
    building->disturbed |= is_of_the_moment(geterrcode());
    errcontext("building the %s layer of \"%.*s\" for prompt_cache", kNames[building->layer],
               static_cast<int>(building->key.size()), building->key.data());
}

// The lock is the one that the query takes too: whoever renames the table waits, or has done it.
const char* name_locked(Oid table) {
    LockRelationOid(table, AccessShareLock);
    const char* name = get_rel_name(table);
    if (!name)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("a table that is attached to prompt_cache is gone"),
                        errhint("Call prompt_cache.attach() again.")));
    return quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), name);
}

// The table that the query under way must read, and no other: a name in it may lead to another one by now, a view say,
// whose functions would run with the rights of the table's owner, the immutable ones when it is planned. So the query
// is looked at between the look-up of its names and its planning.
struct ExpectedLocal {
    Oid table = InvalidOid;
    const char* query = nullptr;
} expected_local;
post_parse_analyze_hook_type previous_analyze_hook = nullptr;

void check_table(ParseState* state, ::Query* query, JumbleState* jumble) {
    if (previous_analyze_hook) previous_analyze_hook(state, query, jumble);
    if (!expected_local.query || !state->p_sourcetext || strcmp(state->p_sourcetext, expected_local.query) != 0) return;
    const auto* table = list_length(query->rtable) == 1 ? linitial_node(RangeTblEntry, query->rtable) : nullptr;
    if (table && table->rtekind == RTE_RELATION && table->relid == expected_local.table) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("a table that is attached to prompt_cache is being renamed"),
                    errhint("Try again.")));
}

const CachedPlanSource& source_of(SPIPlanPtr plan) {
    return *static_cast<const CachedPlanSource*>(linitial(SPI_plan_get_plan_sources(plan)));
}

void prepare(PlansLocal::Cell& cell, const Attachment& attachment, unsigned number, const char* name, Oid type) {
    forget_plan(cell);
    const char* sql = psprintf("%s%s%s", attachment.query(number), name, attachment.condition(number));
    expected_local = {attachment.table(number), sql};
    SPIPlanPtr plan = SPI_prepare(sql, number == core::kApplicationLayer ? 0 : 1, &type);
    if (!plan || SPI_keepplan(plan) != 0)
        elog(ERROR, "prompt_cache: cannot prepare the builder: %s", SPI_result_code_string(SPI_result));
    cell.plan = plan;
    strlcpy(cell.table, name, sizeof(cell.table));
}

// Schemas are renamed without a lock on what is in them.
bool reads(SPIPlanPtr plan, Oid table) {
    return list_member_oid(source_of(plan).relationOids, table);
}

// Inside SPI. `number` is a layer's, or kExistence.
std::uint64_t run_plan(const Attachment& attachment, unsigned number, KeyType type, std::string_view key) {
    constexpr int kTries = 3;
    forget_plans_of(attachment.version);
    const Oid table = attachment.table(number);
    const Datum value = number == core::kApplicationLayer ? static_cast<Datum>(0) : key_datum(type, key);
    PlansLocal::Cell& cell = plans_local.cell[number];
    for (int tries = 0; tries < kTries; tries++) {
        const char* name = name_locked(table);
        if (!cell.plan || strcmp(cell.table, name) != 0) prepare(cell, attachment, number, name, type_of(type));
        expected_local = {table, source_of(cell.plan).query_string};  // a plan that is not valid is analysed anew
        const int result = SPI_execute_plan(cell.plan, const_cast<Datum*>(&value), nullptr, true, 1);
        if (result != SPI_OK_SELECT)
            elog(ERROR, "prompt_cache: builder failed: %s", SPI_result_code_string(result));
        expected_local = {};
        if (reads(cell.plan, table)) return SPI_processed;
    }
    ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("a table that is attached to prompt_cache is being renamed"),
                    errhint("Try again.")));
}

}  // namespace

namespace {

bool building_local = false;

// Runs a plan as the owner of its table. An expression's function that looked up a prompt would change the plans, and the
// wiring, that are in use here: see refuse_nested_lookup().
template <typename Take>
void run_as_owner(const Attachment& attachment, unsigned number, Oid owner, KeyType type, std::string_view key, Take take) {
    const AsOwnerLocal before = begin_as_owner(owner);
    building_local = true;
    PG_TRY();
    {
        spi_connect();
        take(run_plan(attachment, number, type, key) > 0);
        SPI_finish();
    }
    PG_FINALLY();
    {
        building_local = false;
        expected_local = {};
    }
    PG_END_TRY();
    end_as_owner(before);
}

}  // namespace

void install_layer_builder() {
    previous_analyze_hook = post_parse_analyze_hook;
    post_parse_analyze_hook = check_table;
}

void refuse_nested_lookup() {
    if (!building_local) return;
    ereport(ERROR, (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
                    errmsg("an expression of attach() cannot look up prompts or values"),
                    errdetail("What a layer is made of must be its own row."),
                    errhint("Let a namespace have a builder that calls prompt_cache.prompt().")));
}

bool user_exists(const Attachment& attachment, std::string_view key) {
    bool exists = false;
    run_as_owner(attachment, kExistence, attachment.owner(core::kUserLayer), attachment.user_key(), key,
                 [&](bool found) { exists = found; });
    return exists;
}

LayerLocal build_layer(const Attachment& attachment, core::LayerIndex layer, std::string_view key) {
    LayerLocal built;
    if (attachment.query(layer)[0] == '\0') return built;
    MemoryContext context = CurrentMemoryContext;
    const KeyType type = layer == core::kUserLayer ? attachment.user_key() : attachment.tenant_key();

    Building building{layer, key};
    ErrorContextCallback callback{error_context_stack, say_what_is_built, &building};
    error_context_stack = &callback;
    const int settings = fix_settings();
    const bool seen_before = cached_as_seen(attachment.rows(), GetActiveSnapshot());
    run_as_owner(attachment, layer, attachment.owner(layer), type, key, [&](bool found) {
        built.found = found;
        if (!found) return;
        if (const auto text = result_text(0, 1)) built.text = copy_into(context, *text);
        if (SPI_tuptable->tupdesc->natts > 1)
            if (const auto pointer = result_text(0, 2)) built.pointer = copy_into(context, *pointer);
    });
    // Caches only move on: if they held the same before and after, so they did between.
    built.storable = seen_before && !building.disturbed && cached_as_seen(attachment.rows(), GetActiveSnapshot());
    restore_settings(settings);
    error_context_stack = callback.previous;
    return built;
}

}  // namespace prompt_cache
