// What registers users' objects with the cache: attach() and detach(), watch() and unwatch(), create_namespace()
// and alter_namespace(). The caller must own the tables and builders; the work is done as the extension's owner.
//
// Not SECURITY DEFINER: inside such a function nobody can find out who called it. The role that calls is asked
// here, before the switch, and that also holds where a superuser runs somebody else's code (an index
// expression under ANALYZE). And only here names in an expression are read as the caller means them.
//
// Order: our table first, then the users' tables by OID, then the rights are checked, under a snapshot that is taken
// when the locks are held. A right that is checked before a lock is waited for may be gone, or be one on another object,
// when the lock is granted. Nobody waits for a lock on a table that was not his before: that is checked too.
#include "cache/own_rows.hpp"
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

bool has_rights_of(Oid owner) {
    return has_privs_of_role(GetUserId(), owner);  // superusers have everybody's
}

// A table that is not there is for SQL to report.
void require_owner(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return;
    const auto* table = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    const Oid owner = table->relowner;
    const char* schema = get_namespace_name(table->relnamespace);
    const char* name = quote_qualified_identifier(schema, NameStr(table->relname));
    ReleaseSysCache(tuple);
    if (has_rights_of(owner)) return;
    const char* role = GetUserNameFromId(owner, true);
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of table %s", name),
                    role ? errhint("Call it as role %s or as a member of it.", quote_identifier(role)) : 0));
}

// Readers run a builder with its owner's rights: only its owner may hand it out.
void require_owner_of_function(Oid function) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) return;
    const auto* builder = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
    const Oid owner = builder->proowner;
    const char* name = pstrdup(NameStr(builder->proname));
    ReleaseSysCache(tuple);
    if (has_rights_of(owner)) return;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of function %s", name),
                    errdetail("A builder runs with the rights of its owner."),
                    errhint("Call it as the builder's owner or as a member of that role.")));
}

void begin_registering(const char* command, OwnRelation table, LOCKMODE lock) {
    PreventCommandIfReadOnly(command);
    PreventCommandDuringRecovery(command);
    owner_of(table);  // an error with a hint where the extension is not installed
    LockRelationOid(own_relation(table), lock);
}

void lock_own_table(Oid table, LOCKMODE lock) {
    if (table < FirstNormalObjectId) return;  // SQL refuses it
    require_owner(table);
    LockRelationOid(table, lock);
    require_owner(table);
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

struct AttachedTables {
    Oid users = InvalidOid;
    Oid tenants = InvalidOid;
};

AttachedTables attached_tables() {
    AttachedTables tables;
    LOCKMODE lock = AccessShareLock;
    visit_own_rows(OwnRelation::kAttachment, lock, [&](const OwnRow& row) {
        if (const auto users = row.column("users")) tables.users = DatumGetObjectId(*users);
        if (const auto tenants = row.column("tenants")) tables.tenants = DatumGetObjectId(*tenants);
    });
    return tables;
}

// Users before tenants, as lookups lock them. Triggers are taken off the old tables and put on the new ones.
void lock_attached(const AttachedTables& old_tables, const AttachedTables& new_tables) {
    const auto lock = [](Oid table, LOCKMODE mode) {
        if (OidIsValid(table)) lock_own_table(table, mode);
    };
    require_owner(new_tables.users);
    require_owner(new_tables.tenants);
    lock(old_tables.users, AccessExclusiveLock);
    lock(new_tables.users, ShareRowExclusiveLock);
    lock(old_tables.tenants, AccessExclusiveLock);
    lock(new_tables.tenants, ShareRowExclusiveLock);
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

bool is_table(Oid relation) {
    const char kind = get_rel_relkind(relation);
    return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE;
}

// A prompt's expression in the form in which it is stored. Whatever is a name, or is no table's, is left for
// SQL to complain about.
Datum stored_form(Oid table, Datum prompt) {
    if (!is_table(table)) return prompt;
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
    }
    begin_registering("prompt_cache.attach()", OwnRelation::kAttachment, ExclusiveLock);
    lock_attached(attached_tables(), {DatumGetObjectId(values[0]), DatumGetObjectId(values[1])});
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
    begin_registering("prompt_cache.detach()", OwnRelation::kAttachment, ExclusiveLock);
    lock_attached(attached_tables(), {});
    PG_RETURN_BOOL(run_as_owner(query, nullptr, nullptr));
}

namespace {

// Who changes what a namespace is must own its builder as it is now, or, where it has none or it is gone, be the role
// that made the namespace: others would give its readers values of their own.
void require_owner_of_namespace(Datum name) {
    static Query query("SELECT builder, maker FROM prompt_cache._namespace_owner($1)", {TEXTOID});
    Oid builder = InvalidOid;
    Oid maker = InvalidOid;
    const AsOwnerLocal before = begin_as_owner(owner_of(OwnRelation::kNamespace));
    PushActiveSnapshot(GetLatestSnapshot());
    spi_connect();
    if (query.run(&name, nullptr, true, 1) == 1) {
        if (const auto found = result_datum(0, 1)) builder = DatumGetObjectId(*found);
        if (const auto found = result_datum(0, 2)) maker = DatumGetObjectId(*found);
    }
    SPI_finish();
    PopActiveSnapshot();
    end_as_owner(before);
    if (OidIsValid(builder)) {
        require_owner_of_function(builder);
    } else if (OidIsValid(maker) && !has_rights_of(maker)) {
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("must be owner of namespace \"%s\"", TextDatumGetCString(name)),
                        errhint("Call it as role %s or as a member of it.",
                                quote_identifier(GetUserNameFromId(maker, false)))));
    }
}

// What create_namespace() and alter_namespace() have in common: their arguments.
Datum run_with_builder(FunctionCallInfo fcinfo, Query& query) {
    constexpr int kArguments = 7;
    constexpr int kBuilder = 1;
    constexpr int kMaker = kArguments;
    Datum values[kArguments + 1];
    char nulls[kArguments + 1];
    nulls[kMaker] = ' ';
    values[kMaker] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)));
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
    static Query query("SELECT prompt_cache._create_namespace($1, $2, $3, $4, $5, $6, $7, $8)",
                       {TEXTOID, REGPROCEDUREOID, INTERVALOID, INT4OID, BOOLOID, BOOLOID, INTERVALOID, NAMEOID});
    begin_registering("prompt_cache.create_namespace()", OwnRelation::kWatch, ExclusiveLock);
    return run_with_builder(fcinfo, query);
}

PC_FUNCTION(pc_alter_namespace) {
    static Query query("SELECT prompt_cache._alter_namespace($1, $2, $3, $4, $5, $6, $7, $8)",
                       {TEXTOID, REGPROCEDUREOID, INTERVALOID, INT4OID, BOOLOID, BOOLOID, INTERVALOID, NAMEOID});
    begin_registering("prompt_cache.alter_namespace()", OwnRelation::kWatch, ExclusiveLock);
    if (!PG_ARGISNULL(0)) require_owner_of_namespace(PG_GETARG_DATUM(0));
    return run_with_builder(fcinfo, query);
}

PC_FUNCTION(pc_drop_namespace) {
    static Query query("SELECT prompt_cache._drop_namespace($1)", {TEXTOID});
    const Datum values[] = {PG_ARGISNULL(0) ? static_cast<Datum>(0) : PG_GETARG_DATUM(0)};
    begin_registering("prompt_cache.drop_namespace()", OwnRelation::kWatch, ShareRowExclusiveLock);
    if (!PG_ARGISNULL(0)) require_owner_of_namespace(values[0]);
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
    begin_registering("prompt_cache.watch()", OwnRelation::kWatch, ShareRowExclusiveLock);
    if (nulls[kSource] == ' ') lock_own_table(DatumGetObjectId(values[kSource]), ShareRowExclusiveLock);
    if (nulls[kSource] == ' ' && nulls[kKey] == ' ' && is_table(DatumGetObjectId(values[kSource]))) {
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
    begin_registering("prompt_cache.unwatch()", OwnRelation::kWatch, ShareRowExclusiveLock);
    lock_own_table(DatumGetObjectId(values[0]), AccessExclusiveLock);
    PG_RETURN_BOOL(run_as_owner(query, values, nullptr));
}

}  // namespace prompt_cache
