#include "pg/hidden_inputs.hpp"

#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"

extern "C" {
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "commands/proclang.h"
}

namespace prompt_cache {

namespace {

// The others look at the clock, the session or the catalogs.
constexpr Oid kSteadyFunctions[] = {
    F_CONCAT, F_CONCAT_WS, F_FORMAT_TEXT, F_FORMAT_TEXT_ANY, F_TEXTANYCAT, F_ANYTEXTCAT,
    F_ARRAY_TO_STRING_ANYARRAY_TEXT, F_ARRAY_TO_STRING_ANYARRAY_TEXT_TEXT, F_QUOTE_LITERAL_ANYELEMENT,
    F_QUOTE_NULLABLE_ANYELEMENT, F_TO_CHAR_INTERVAL_TEXT, F_TO_CHAR_TIMESTAMPTZ_TEXT,
    F_TO_CHAR_TIMESTAMP_TEXT, F_TO_CHAR_NUMERIC_TEXT, F_TO_CHAR_INT4_TEXT, F_TO_CHAR_INT8_TEXT,
    F_TO_CHAR_FLOAT4_TEXT, F_TO_CHAR_FLOAT8_TEXT, F_TO_NUMBER, F_TO_DATE, F_TO_TIMESTAMP_TEXT_TEXT,
    F_CONVERT_FROM, F_CONVERT_TO, F_TIME_TIMESTAMPTZ, F_TO_JSON, F_TO_JSONB, F_ROW_TO_JSON_RECORD,
    F_ROW_TO_JSON_RECORD_BOOL, F_ARRAY_TO_JSON_ANYARRAY, F_ARRAY_TO_JSON_ANYARRAY_BOOL,
    F_JSON_BUILD_ARRAY_ANY, F_JSON_BUILD_ARRAY_, F_JSON_BUILD_OBJECT_ANY, F_JSON_BUILD_OBJECT_,
    F_JSONB_BUILD_ARRAY_ANY, F_JSONB_BUILD_ARRAY_, F_JSONB_BUILD_OBJECT_ANY, F_JSONB_BUILD_OBJECT_,
    F_DATE_TIMESTAMPTZ, F_TIMESTAMP_TIMESTAMPTZ, F_TIMESTAMPTZ_DATE, F_TIMESTAMPTZ_TIMESTAMP,
    F_DATE_PART_TEXT_TIMESTAMPTZ, F_EXTRACT_TEXT_TIMESTAMPTZ, F_DATE_TRUNC_TEXT_TIMESTAMPTZ,
    F_TIMESTAMPTZ_PL_INTERVAL, F_TIMESTAMPTZ_MI_INTERVAL,
    // Output of types.
    F_ARRAY_OUT, F_RECORD_OUT, F_RANGE_OUT, F_MULTIRANGE_OUT, F_DATE_OUT, F_TIMESTAMP_OUT, F_TIMESTAMPTZ_OUT,
    F_CASH_OUT, F_INTERVAL_OUT, F_ENUM_OUT, F_ANYENUM_OUT};

struct NamedInput {
    std::string_view name;  // a star at the end stands for anything
    HiddenInput input;

    constexpr bool fits(std::string_view function) const noexcept {
        return name.ends_with('*') ? function.starts_with(name.substr(0, name.size() - 1)) : function == name;
    }
};

using enum HiddenInput;

// The first that fits counts.
constexpr NamedInput kNamedInputs[] = {
    // Input and comparisons of types, json, and what is made of definitions whose DDL is noticed (enums, text
    // search). Dates: their text may be 'now', which a plan does not show.
    {"date", kNone}, {"date_*", kNone}, {"time_in", kNone}, {"timetz", kNone}, {"timetz_in", kNone},
    {"timestamp*", kNone}, {"make_timestamptz", kNone}, {"in_range", kNone}, {"generate_series", kNone},
    {"interval_in", kNone}, {"any*", kNone}, {"array_*", kNone}, {"record_*", kNone},
    {"range_*", kNone}, {"multirange_*", kNone}, {"domain_in", kNone}, {"enum_*", kNone}, {"cash_in", kNone},
    {"money", kNone}, {"numeric", kNone}, {"json*", kNone}, {"xml*", kNone}, {"query_to_xml*", kNone},
    {"to_tsvector", kNone}, {"to_tsquery", kNone}, {"plainto_tsquery", kNone}, {"phraseto_tsquery", kNone},
    {"websearch_to_tsquery", kNone}, {"ts_*", kNone}, {"get_current_ts_config", kNone}, {"convert", kNone},
    {"length", kNone}, {"pg_typeof", kNone}, {"set_config", kNone}, {"getdatabaseencoding", kNone},

    {"now", kClock}, {"clock_timestamp", kClock}, {"statement_timestamp", kClock},
    {"transaction_timestamp", kClock}, {"timeofday", kClock}, {"timezone", kClock},
    {"random*", kChance}, {"gen_random_*", kChance}, {"uuidv*", kChance}, {"bernoulli", kChance},
    {"system", kChance},

    {"session_user", kSession}, {"system_user", kSession}, {"current_setting", kSession},
    {"current_schemas", kSession}, {"current_query", kSession}, {"currval", kSession}, {"lastval", kSession},
    {"inet_*", kSession}, {"txid_*", kSession}, {"pg_backend_pid", kSession}, {"pg_client_encoding", kSession},
    {"pg_current_xact_*", kSession}, {"pg_current_snapshot", kSession}, {"pg_export_snapshot", kSession},
    {"pg_my_temp_schema", kSession}, {"pg_is_other_temp_schema", kSession}, {"pg_trigger_depth", kSession},
    {"pg_listening_channels", kSession}, {"pg_cursor", kSession}, {"pg_prepared_statement", kSession},
    {"pg_show_all_settings", kSession}, {"pg_stat_get_xact_*", kSession}, {"pg_try_advisory_*", kSession},
    {"pg_advisory_*", kSession}, {"pg_get_backend_memory_contexts", kSession},
    {"pg_replication_origin_session_*", kSession},

    {"nextval", kSequence}, {"setval", kSequence}, {"pg_sequence_last_value", kSequence},
    {"pg_get_sequence_data", kSequence},
    {"pg_relation_size", kSize}, {"pg_table_size", kSize}, {"pg_indexes_size", kSize},
    {"pg_total_relation_size", kSize}, {"pg_database_size", kSize}, {"pg_tablespace_size", kSize},
    {"pg_column_*", kSize},
    {"pg_read_*", kFile}, {"pg_ls_*", kFile}, {"pg_stat_file", kFile}, {"pg_current_logfile", kFile},
    {"pg_stat_*", kSize},
    {"lo_*", kLargeObject}, {"loread", kLargeObject}, {"lowrite", kLargeObject},
};

HiddenInput input_of_name(std::string_view name) noexcept {
    for (const NamedInput& named : kNamedInputs)
        if (named.fits(name)) return named.input;
    return kCatalogs;
}

// A function of PostgreSQL's own.
FunctionInputs inputs_of_builtin(Oid function, const FormData_pg_proc& form) noexcept {
    if (form.provolatile == PROVOLATILE_IMMUTABLE || form.prolang == SQLlanguageId) return {kNone, false};
    // What returns nothing, as pg_sleep(), adds nothing to a value.
    if (form.prorettype == VOIDOID) return {kNone, false};
    const HiddenInput hidden = is_steady(function) ? kNone : input_of_name(NameStr(form.proname));
    const Oid* types = form.proargtypes.values;
    const bool prints = std::any_of(types, types + form.pronargs, [](Oid type) {
        return type == ANYOID || type == RECORDOID || IsPolymorphicType(type);
    });
    return {hidden, prints && hidden == kNone};
}

bool is_looked_into(Oid language) {
    if (language == SQLlanguageId) return true;
    if (language == ClanguageId || language == INTERNALlanguageId) return false;
    const char* name = get_language_name(language, true);
    return name && strcmp(name, "plpgsql") == 0;
}

// A function of a user's or an extension's. Ours tell the build what they read.
HiddenInput input_of_other(const FormData_pg_proc& form) {
    if (is_looked_into(form.prolang)) return kNone;
    if (std::string_view(NameStr(form.proname)).starts_with("dblink")) return kConnection;
    if (form.provolatile != PROVOLATILE_VOLATILE) return kNone;
    return form.pronamespace == get_rel_namespace(own_relation(OwnRelation::kNamespace)) ? kNone : kVolatile;
}

}  // namespace

const char* describe(HiddenInput input) noexcept {
    switch (input) {
        case kNone:
            return "reads nothing else";
        case kCatalogs:
            return "reads the catalogs or the state of the server";
        case kSequence:
            return "reads a sequence";
        case kSize:
            return "reads sizes or statistics";
        case kClock:
            return "reads the clock";
        case kChance:
            return "gives another value at each call";
        case kFile:
            return "reads files of the server";
        case kLargeObject:
            return "reads large objects";
        case kConnection:
            return "reads through another connection";
        case kVolatile:
            return "is VOLATILE, and what it reads is not known";
        case kSession:
            return "reads the session of the caller";
    }
    return "";
}

bool is_steady(Oid function) noexcept {
    return std::find(std::begin(kSteadyFunctions), std::end(kSteadyFunctions), function) != std::end(kSteadyFunctions);
}

FunctionInputs inputs_of(Oid function) {
    // PostgreSQL's own do not change while the server runs.
    struct Known {
        bool asked;
        FunctionInputs inputs;
    };
    static Known known_local[FirstGenbkiObjectId];
    Known* known = function < std::size(known_local) ? &known_local[function] : nullptr;
    if (known && known->asked) return known->inputs;
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) return {kNone, false};
    const auto* form = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
    const FunctionInputs inputs =
        function < FirstNormalObjectId ? inputs_of_builtin(function, *form) : FunctionInputs{input_of_other(*form), false};
    ReleaseSysCache(tuple);
    if (known) *known = {true, inputs};
    return inputs;
}

HiddenInput hidden_input_of(SQLValueFunctionOp function) noexcept {
    switch (function) {
        case SVFOP_SESSION_USER:
            return kSession;
        // A builder runs as its owner: who that is, is the same for every caller, and has a name.
        case SVFOP_CURRENT_ROLE:
        case SVFOP_CURRENT_USER:
        case SVFOP_USER:
        case SVFOP_CURRENT_CATALOG:
        case SVFOP_CURRENT_SCHEMA:
            return kCatalogs;
        default:
            return kClock;
    }
}

HiddenInput hidden_input_of_setting(const char* setting) noexcept {
    const auto is_it = [&](const FixedSetting& fixed) { return pg_strcasecmp(fixed.name, setting) == 0; };
    const bool fixed = pg_strcasecmp(setting, "search_path") == 0 ||
                       std::any_of(std::begin(kFixedSettings), std::end(kFixedSettings), is_it) ||
                       std::any_of(std::begin(kBuilderSettings), std::end(kBuilderSettings), is_it);
    return fixed ? kNone : kSession;
}

const char* name_of(SQLValueFunctionOp function) noexcept {
    switch (function) {
        case SVFOP_CURRENT_DATE:
            return "CURRENT_DATE";
        case SVFOP_CURRENT_TIME:
        case SVFOP_CURRENT_TIME_N:
            return "CURRENT_TIME";
        case SVFOP_CURRENT_TIMESTAMP:
        case SVFOP_CURRENT_TIMESTAMP_N:
            return "CURRENT_TIMESTAMP";
        case SVFOP_LOCALTIME:
        case SVFOP_LOCALTIME_N:
            return "LOCALTIME";
        case SVFOP_LOCALTIMESTAMP:
        case SVFOP_LOCALTIMESTAMP_N:
            return "LOCALTIMESTAMP";
        case SVFOP_CURRENT_ROLE:
            return "CURRENT_ROLE";
        case SVFOP_CURRENT_USER:
            return "CURRENT_USER";
        case SVFOP_USER:
            return "USER";
        case SVFOP_SESSION_USER:
            return "SESSION_USER";
        case SVFOP_CURRENT_CATALOG:
            return "CURRENT_CATALOG";
        case SVFOP_CURRENT_SCHEMA:
            return "CURRENT_SCHEMA";
    }
    return "";
}

}  // namespace prompt_cache
