// What wires the user's objects to the cache: attach() and detach(), watch() and unwatch(), create_namespace()
// and alter_namespace(). The caller must own the tables and builders; the work is done as the extension's owner.
//
// Not SECURITY DEFINER: inside such a function nobody can tell who called it. The role that calls is asked
// here, before the switch, and that also holds where a superuser runs somebody else's code (an index
// expression under ANALYZE).
#include "exports.hpp"
#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"
#include "pg/query.hpp"
#include "pg/row_expression.hpp"

extern "C" {
#include "catalog/pg_proc.h"
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

}  // namespace

PC_FUNCTION(pc_attach) {
    constexpr int kArguments = 7;
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
    PG_RETURN_BOOL(run_as_owner(query, values, nulls));
}

PC_FUNCTION(pc_detach) {
    static Query query("SELECT prompt_cache._detach()");
    require_owner_of_attached();
    PG_RETURN_BOOL(run_as_owner(query, nullptr, nullptr));
}

namespace {

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
    return run_with_builder(fcinfo, query);
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
