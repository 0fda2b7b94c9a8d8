// Our triggers on the tables of users: made, dropped and turned back to ENABLE ALWAYS.
//
// Tables are addressed by OID, under a lock that is taken first, and with the server's own functions: a statement with a
// name in it, run with the rights of the extension's owner, could be led to another table by whoever renames tables or
// schemas while it waits for the lock.
//
// Only SQL functions of the extension call these, as its owner; who may change the table has been asked before.
#include "exports.hpp"
#include "pg/catalog.hpp"
#include "pg/postgres.hpp"
#include "pg/query.hpp"

extern "C" {
#include "access/relation.h"
#include "catalog/pg_trigger.h"
#include "commands/event_trigger.h"
#include "tcop/cmdtag.h"
#include "utils/array.h"
}

namespace prompt_cache {

namespace {

constexpr int kChanged = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE;
constexpr int kTruncated = TRIGGER_TYPE_TRUNCATE;

List* strings_of(ArrayType* array) {
    Datum* datums = nullptr;
    int count = 0;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &datums, nullptr, &count);
    List* strings = NIL;
    for (int i = 0; i < count; i++) strings = lappend(strings, makeString(TextDatumGetCString(datums[i])));
    return strings;
}

const Trigger* find_trigger(Relation relation, const char* name) {
    const TriggerDesc* triggers = relation->trigdesc;
    for (int i = 0; triggers && i < triggers->numtriggers; i++)
        if (strcmp(triggers->triggers[i].tgname, name) == 0) return &triggers->triggers[i];
    return nullptr;
}

// Drops the trigger of this name if it calls our function; the triggers that partitions have of it go too.
void drop_trigger(Oid table, const char* name) {
    Relation relation = table_open(table, NoLock);
    const Trigger* trigger = find_trigger(relation, name);
    ObjectAddress address{TriggerRelationId, InvalidOid, 0};
    if (trigger && trigger->tgfoid == own_trigger_function()) address.objectId = trigger->tgoid;
    table_close(relation, NoLock);
    if (!OidIsValid(address.objectId)) return;
    performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
    CommandCounterIncrement();
}

void create_trigger(Oid table, const char* name, int events, bool row, List* arguments) {
    auto* statement = makeNode(CreateTrigStmt);
    statement->trigname = pstrdup(name);
    statement->args = arguments;
    statement->row = row;
    statement->timing = TRIGGER_TYPE_AFTER;
    statement->events = static_cast<int16>(events);
    const ObjectAddress trigger =
        CreateTriggerFiringOn(statement, "", table, InvalidOid, InvalidOid, InvalidOid, own_trigger_function(),
                              InvalidOid, nullptr, false, false, TRIGGER_FIRES_ALWAYS);
    const ObjectAddress extension{ExtensionRelationId, get_extension_oid(kExtension, false), 0};
    recordDependencyOn(&trigger, &extension, DEPENDENCY_AUTO_EXTENSION);
    CommandCounterIncrement();
}

const char* name_of(const char* base, const char* kind) {
    return psprintf("%s_%s", base, kind);
}

// False if the table is gone.
bool lock_table(Oid table, LOCKMODE mode) {
    LockRelationOid(table, mode);
    if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table))) return true;
    UnlockRelationOid(table, mode);
    return false;
}

// A trigger of anybody's that calls our function: on the table of whoever may create one. DROP EXTENSION must not
// fail on it, so the trigger goes with the extension. On a temporary table it is of no use: its registration is refused.
void adopt_trigger(Oid oid) {
    Relation catalog = table_open(TriggerRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
    SysScanDesc scan = systable_beginscan(catalog, TriggerOidIndexId, true, nullptr, 1, &key);
    Oid table = InvalidOid;
    Oid function = InvalidOid;
    if (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple)) {
        table = reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple))->tgrelid;
        function = reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple))->tgfoid;
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    if (!OidIsValid(function) || function != own_trigger_function()) return;
    if (get_rel_persistence(table) == RELPERSISTENCE_TEMP)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("a trigger of prompt_cache cannot stand on a temporary table"),
                        errhint("prompt_cache.attach() and prompt_cache.watch() make the triggers, on permanent tables.")));
    const Oid extension = get_extension_oid(kExtension, false);
    if (list_member_oid(getAutoExtensionsOfObject(TriggerRelationId, oid), extension)) return;
    const ObjectAddress depender{TriggerRelationId, oid, 0};
    const ObjectAddress owner{ExtensionRelationId, extension, 0};
    recordDependencyOn(&depender, &owner, DEPENDENCY_AUTO_EXTENSION);
}

}  // namespace

// _put_triggers(source oid, name text, arguments text[]): `name`_changed for rows and `name`_truncated. One of this name
// that calls our function, left by a dump of the schema alone, is replaced.
PC_FUNCTION(pc_put_triggers) {
    const Oid table = PG_GETARG_OID(0);
    const char* base = text_to_cstring(PG_GETARG_TEXT_PP(1));
    List* arguments = strings_of(PG_GETARG_ARRAYTYPE_P(2));
    if (!lock_table(table, ShareRowExclusiveLock))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", table)));
    drop_trigger(table, name_of(base, "changed"));
    drop_trigger(table, name_of(base, "truncated"));
    create_trigger(table, name_of(base, "changed"), kChanged, true, arguments);
    create_trigger(table, name_of(base, "truncated"), kTruncated, false, arguments);
    PG_RETURN_BOOL(true);
}

// _drop_triggers(source oid, name text): false if the table is gone.
PC_FUNCTION(pc_drop_triggers) {
    const Oid table = PG_GETARG_OID(0);
    const char* base = text_to_cstring(PG_GETARG_TEXT_PP(1));
    if (!lock_table(table, AccessExclusiveLock)) PG_RETURN_BOOL(false);
    drop_trigger(table, name_of(base, "changed"));
    drop_trigger(table, name_of(base, "truncated"));
    PG_RETURN_BOOL(true);
}

// _enable_triggers(relation oid): turns our triggers on one relation from ENABLE back to ENABLE ALWAYS. How many, or NULL
// where somebody has the relation locked: who waits for such a lock holds up everybody who comes after.
PC_FUNCTION(pc_enable_triggers) {
    const Oid table = PG_GETARG_OID(0);
    if (!ConditionalLockRelationOid(table, ShareRowExclusiveLock)) PG_RETURN_NULL();
    std::int32_t count = 0;
    Relation relation = try_relation_open(table, NoLock);
    if (!relation) PG_RETURN_INT32(0);
    const Oid function = own_trigger_function();
    const TriggerDesc* triggers = CopyTriggerDesc(relation->trigdesc);  // each change sends a message about the relation
    for (int i = 0; triggers && i < triggers->numtriggers; i++) {
        const Trigger& trigger = triggers->triggers[i];
        if (trigger.tgfoid != function || trigger.tgenabled != TRIGGER_FIRES_ON_ORIGIN) continue;
        enable_trigger_always(relation, trigger.tgname);
        count++;
    }
    relation_close(relation, NoLock);
    if (count > 0) CommandCounterIncrement();
    PG_RETURN_INT32(count);
}

// The event trigger on ddl_command_end. Being called has loaded the library, whose callback at the end of the transaction
// notes DDL on sources.
PC_FUNCTION(pc_ddl_seen) {
    static Query created("SELECT objid FROM pg_catalog.pg_event_trigger_ddl_commands()"
                         " WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass");
    if (!CALLED_AS_EVENT_TRIGGER(fcinfo)) PG_RETURN_NULL();
    const CommandTag tag = reinterpret_cast<EventTriggerData*>(fcinfo->context)->tag;
    if (tag != CMDTAG_CREATE_TRIGGER && tag != CMDTAG_CREATE_SCHEMA) PG_RETURN_NULL();
    spi_connect();
    const std::uint64_t count = created.run(nullptr, nullptr, false);
    for (std::uint64_t i = 0; i < count; i++) adopt_trigger(DatumGetObjectId(*result_datum(i, 1)));
    SPI_finish();
    PG_RETURN_NULL();
}

}  // namespace prompt_cache
