// What wires the user's objects to the cache: attach() and detach(), watch() and unwatch(), create_namespace()
// and alter_namespace(). The caller must own the tables and builders; the work is done as the extension's owner.
//
// Not SECURITY DEFINER: inside such a function nobody can tell who called it. The role that calls is asked
// here, before the switch, and that also holds where a superuser runs somebody else's code (an index
// expression under ANALYZE). And only here names in an expression are read as the caller means them.
#include "exports.hpp"
#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"
#include "pg/expression_objects.hpp"
#include "pg/query.hpp"
#include "pg/row_expression.hpp"

extern "C" {
#include "catalog/pg_proc.h"
#include "parser/scansup.h"
#include "utils/regproc.h"
}

namespace prompt_cache {

namespace {

bool is_owner(Oid relation) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(RelationRelationId, relation, GetUserId());
#else
    return pg_class_ownercheck(relation, GetUserId());
#endif
}

bool is_owner_of_function(Oid function) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(ProcedureRelationId, function, GetUserId());
#else
    return pg_proc_ownercheck(function, GetUserId());
#endif
}

const char* owner_name(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return quote_identifier(GetUserNameFromId(owner, false));
}

// A table that is not there is somebody else's complaint.
void require_owner(Oid relation) {
    if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relation)) || is_owner(relation)) return;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("must be owner of table %s",
                           quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
                                                      get_rel_name(relation))),
                    errhint("Call it as role %s or as a member of it.", owner_name(relation))));
}

// Readers run a builder with its owner's rights: only its owner may hand it out.
void require_owner_of_function(Oid function) {
    if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)) || is_owner_of_function(function)) return;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("must be owner of function %s", get_func_name(function)),
                    errdetail("A builder runs with the rights of its owner."),
                    errhint("Call it as the builder's owner or as a member of that role.")));
}

bool run_as_owner(Query& query, const Datum* values, const char* nulls) {
    const AsOwnerLocal before = begin_as_owner(owner_of(OwnRelation::kAttachment));
    spi_connect();
    query.run(values, nulls, false, 1);
    const bool result = DatumGetBool(*result_datum(0, 1));
    SPI_finish();
    end_as_owner(before);
    return result;
}

void require_owner_of_attached() {
    static Query query("SELECT users::pg_catalog.oid, tenants::pg_catalog.oid FROM prompt_cache.attachment");
    Oid tables[2] = {InvalidOid, InvalidOid};
    const AsOwnerLocal before = begin_as_owner(owner_of(OwnRelation::kAttachment));
    spi_connect();
    if (query.run(nullptr, nullptr, false, 1) == 1)
        for (int i = 0; i < 2; i++)
            if (const auto table = result_datum(0, i + 1)) tables[i] = DatumGetObjectId(*table);
    SPI_finish();
    end_as_owner(before);
    for (const Oid table : tables)
        if (OidIsValid(table)) require_owner(table);
}

// Is the text, which is no column's name, meant as one?
bool is_meant_as_name(Relation table, const char* text) {
    for (const char* c = text; *c; c++)
        if (!isalnum(static_cast<unsigned char>(*c)) && !strchr("_$.", *c) && !IS_HIGHBIT_SET(*c))
            return false;
    const char* folded = downcase_identifier(text, static_cast<int>(strlen(text)), false, false);
    return SPI_fnumber(RelationGetDescr(table), folded) <= 0;
}

void require_text(const CheckedExpression& expression, const char* text) {
    char category = TYPCATEGORY_UNKNOWN;
    bool preferred = false;
    get_type_category_preferred(expression.type, &category, &preferred);
    if (category == TYPCATEGORY_STRING || expression.type == UNKNOWNOID || expression.type == JSONOID ||
        expression.type == JSONBOID)
        return;
    ereport(
        ERROR,
        (errcode(ERRCODE_DATATYPE_MISMATCH),
         errmsg("expression \"%s\" has type %s, which is not text", text, format_type_be(expression.type)),
         errhint("A prompt is text, varchar, citext, json or jsonb. Write (...)::text if it is meant.")));
}

// A prompt's expression in the form in which it is stored. Whatever is a name, or is no table's, is left for
// SQL to complain about.
Datum stored_form(Oid table, Datum prompt) {
    const char kind = get_rel_relkind(table);
    if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) return prompt;
    const char* written = TextDatumGetCString(prompt);
    Relation relation = table_open(table, AccessShareLock);
    if (SPI_fnumber(RelationGetDescr(relation), written) <= 0 && !is_meant_as_name(relation, written)) {
        const CheckedExpression expression = check_row_expression(relation, written, Steadiness::kStable);
        require_text(expression, written);
        prompt = CStringGetTextDatum(expression.text);
        if (OidIsValid(expression.stable_function))
            ereport(NOTICE, (errmsg("function %s in the expression is STABLE",
                                    format_procedure(expression.stable_function)),
                             errdetail("A cached prompt does not follow changes of tables that it may read."),
                             errhint("Declare it IMMUTABLE if its result depends on its arguments alone.")));
    }
    table_close(relation, NoLock);
    return prompt;
}

Datum integers(const List* list) {
    auto* numbers = static_cast<Datum*>(palloc(sizeof(Datum) * (list_length(list) + 1)));
    int count = 0;
    ListCell* cell;
    foreach (cell, list) numbers[count++] = Int32GetDatum(lfirst_int(cell));
    return PointerGetDatum(
        construct_array(numbers, count, INT4OID, sizeof(std::int32_t), true, TYPALIGN_INT));
}

}  // namespace

PC_FUNCTION(pc_attach) {
    constexpr int kArguments = 7;
    constexpr int kPrompts[][2] = {{0, 4}, {1, 6}};  // table and prompt among the arguments
    static Query query("SELECT prompt_cache._attach($1, $2, $3, $4, $5, $6, $7)",
                       {REGCLASSOID, REGCLASSOID, NAMEOID, NAMEOID, TEXTOID, NAMEOID, TEXTOID});
    Datum values[kArguments];
    char nulls[kArguments];
    for (int i = 0; i < kArguments; i++) {
        values[i] = PG_ARGISNULL(i) ? static_cast<Datum>(0) : PG_GETARG_DATUM(i);
        nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
        if (i < 2 && !PG_ARGISNULL(i)) require_owner(DatumGetObjectId(values[i]));
    }
    require_owner_of_attached();  // whose triggers go, where there is a wiring already
    for (const auto& [table, prompt] : kPrompts)
        if (nulls[table] == ' ' && nulls[prompt] == ' ')
            values[prompt] = stored_form(DatumGetObjectId(values[table]), values[prompt]);
    PG_RETURN_BOOL(run_as_owner(query, values, nulls));
}

PC_FUNCTION(pc_expression_objects) {
    ExpressionObjects objects;
    if (!add_expression_objects(PG_GETARG_OID(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), true, objects))
        PG_RETURN_NULL();
    TupleDesc descriptor = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "prompt_cache: return type must be a row type");
    Datum values[] = {integers(objects.numbers), integers(objects.rows)};
    bool nulls[] = {false, false};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}

PC_FUNCTION(pc_stable_function) {
    ExpressionObjects objects;
    if (!add_expression_objects(PG_GETARG_OID(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), true, objects) ||
        !OidIsValid(objects.stable_function))
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(make_text(format_procedure(objects.stable_function)));
}

PC_FUNCTION(pc_detach) {
    static Query query("SELECT prompt_cache._detach()");
    require_owner_of_attached();
    PG_RETURN_BOOL(run_as_owner(query, nullptr, nullptr));
}

namespace {

// Who changes what a namespace is must own its builder as it is now: others would give its readers values of their own.
// Where it has none, or it is gone, the right to call is enough.
void require_owner_of_builder(Datum name) {
    static Query query(
        "SELECT pg_catalog.to_regprocedure(n.builder)::pg_catalog.oid FROM prompt_cache.namespace n"
        " WHERE n.namespace OPERATOR(pg_catalog.=) $1",
        {TEXTOID});
    Oid builder = InvalidOid;
    const AsOwnerLocal before = begin_as_owner(owner_of(OwnRelation::kNamespace));
    spi_connect();
    if (query.run(&name, nullptr, false, 1) == 1)
        if (const auto found = result_datum(0, 1)) builder = DatumGetObjectId(*found);
    SPI_finish();
    end_as_owner(before);
    if (OidIsValid(builder)) require_owner_of_function(builder);
}

// What create_namespace() and alter_namespace() have in common: their arguments.
Datum run_with_builder(FunctionCallInfo fcinfo, Query& query) {
    constexpr int kArguments = 7;
    constexpr int kBuilder = 1;
    Datum values[kArguments];
    char nulls[kArguments];
    for (int i = 0; i < kArguments; i++) {
        nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
        values[i] = PG_ARGISNULL(i) ? static_cast<Datum>(0) : PG_GETARG_DATUM(i);
    }
    if (nulls[kBuilder] == ' ') require_owner_of_function(DatumGetObjectId(values[kBuilder]));
    PG_RETURN_BOOL(run_as_owner(query, values, nulls));
}

Datum names_of_columns(Relation relation, const Bitmapset* columns) {
    Datum names[MaxHeapAttributeNumber];
    int count = 0;
    for (int i = bms_next_member(columns, -1); i >= 0; i = bms_next_member(columns, i))
        names[count++] =
            CStringGetTextDatum(NameStr(TupleDescAttr(RelationGetDescr(relation), i - 1)->attname));
    return PointerGetDatum(construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
}

}  // namespace

PC_FUNCTION(pc_create_namespace) {
    static Query query("SELECT prompt_cache._create_namespace($1, $2, $3, $4, $5, $6, $7)",
                       {TEXTOID, REGPROCEDUREOID, INTERVALOID, INT4OID, BOOLOID, BOOLOID, INTERVALOID});
    return run_with_builder(fcinfo, query);
}

PC_FUNCTION(pc_alter_namespace) {
    static Query query("SELECT prompt_cache._alter_namespace($1, $2, $3, $4, $5, $6, $7)",
                       {TEXTOID, REGPROCEDUREOID, INTERVALOID, INT4OID, BOOLOID, BOOLOID, INTERVALOID});
    if (!PG_ARGISNULL(0)) require_owner_of_builder(PG_GETARG_DATUM(0));
    return run_with_builder(fcinfo, query);
}

PC_FUNCTION(pc_drop_namespace) {
    static Query query("SELECT prompt_cache._drop_namespace($1)", {TEXTOID});
    const Datum values[] = {PG_ARGISNULL(0) ? static_cast<Datum>(0) : PG_GETARG_DATUM(0)};
    if (!PG_ARGISNULL(0)) require_owner_of_builder(values[0]);
    PG_RETURN_BOOL(run_as_owner(query, values, PG_ARGISNULL(0) ? "n" : " "));
}

PC_FUNCTION(pc_watch) {
    enum Argument { kSource, kNamespace, kKey, kColumns, kKeyColumns, kArguments };
    static Query query("SELECT prompt_cache._watch($1, $2, $3, $4, $5)",
                       {REGCLASSOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID});
    Datum values[kArguments];
    char nulls[kArguments];
    for (int i = 0; i < kKeyColumns; i++) {
        nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
        values[i] = PG_ARGISNULL(i) ? static_cast<Datum>(0) : PG_GETARG_DATUM(i);
    }
    nulls[kKeyColumns] = ' ';
    values[kKeyColumns] = PointerGetDatum(construct_empty_array(TEXTOID));
    if (nulls[kSource] == ' ') require_owner(DatumGetObjectId(values[kSource]));
    if (nulls[kSource] == ' ' && nulls[kKey] == ' ') {
        Relation relation = table_open(DatumGetObjectId(values[kSource]), AccessShareLock);
        const char* given = text_to_cstring(DatumGetTextPP(values[kKey]));
        const CheckedExpression key = check_row_expression(relation, given, Steadiness::kImmutable);
        values[kKey] = CStringGetTextDatum(key.text);
        values[kKeyColumns] = names_of_columns(relation, key.columns);
        table_close(relation, NoLock);
    }
    PG_RETURN_BOOL(run_as_owner(query, values, nulls));
}

PC_FUNCTION(pc_unwatch) {
    static Query query("SELECT prompt_cache._unwatch($1, $2)", {REGCLASSOID, TEXTOID});
    const Datum values[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
    require_owner(DatumGetObjectId(values[0]));
    PG_RETURN_BOOL(run_as_owner(query, values, nullptr));
}

}  // namespace prompt_cache
