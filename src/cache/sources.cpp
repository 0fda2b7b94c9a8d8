#include "cache/sources.hpp"

#include "pg/catalog.hpp"

namespace prompt_cache {

bool SourceSet::contains_schema(std::uint32_t hash) const {
    if (unknown_) return true;
    ListCell* cell;
    foreach (cell, schemas_)
        if (GetSysCacheHashValue1(NAMESPACEOID, ObjectIdGetDatum(lfirst_oid(cell))) == hash) return true;
    return false;
}

SourceSet current_sources() {
    const Oid attachment = own_relation(OwnRelation::kAttachment);
    if (!OidIsValid(attachment)) return SourceSet();

    List* relations =
        list_make4_oid(attachment, own_relation(OwnRelation::kApplication),
                       own_relation(OwnRelation::kUserPromptCache), own_relation(OwnRelation::kTagNonce));
    // Not our own: a GRANT on it would count, and while it has another name no change goes through.
    List* schemas = NIL;
    // A commit does not wait here, where no timeout holds: who locks this table is changing the wiring.
    if (!ConditionalLockRelationOid(attachment, AccessShareLock)) return SourceSet::unknown();
    if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(attachment))) return SourceSet::unknown();
    Relation relation = table_open(attachment, NoLock);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot, 0, nullptr);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        for (const char* column : {"users", "tenants"}) {
            bool isnull = false;
            const AttrNumber number = get_attnum(attachment, column);
            const Datum source = heap_getattr(tuple, number, RelationGetDescr(relation), &isnull);
            if (isnull) continue;
            // A source that is being dropped is still one, though the catalogs know no more of it.
            const Oid root = DatumGetObjectId(source);
            schemas = lappend_oid(schemas, get_rel_namespace(root));
            relations = SearchSysCacheExists1(RELOID, ObjectIdGetDatum(root))
                            ? list_concat(relations, find_all_inheritors(root, NoLock, nullptr))
                            : lappend_oid(relations, root);
        }
    }
    systable_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(relation, AccessShareLock);
    return SourceSet(relations, schemas);
}

}  // namespace prompt_cache
