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

namespace {

struct FoundLocal {
    List* relations = NIL;
    List* schemas = NIL;
    bool has_builders = false;
};

void add_table(FoundLocal& found, Oid root) {
    found.schemas = lappend_oid(found.schemas, get_rel_namespace(root));
    // A source that is being dropped is still one, though the catalogs know no more of it.
    found.relations = SearchSysCacheExists1(RELOID, ObjectIdGetDatum(root))
                          ? list_concat(found.relations, find_all_inheritors(root, NoLock, nullptr))
                          : lappend_oid(found.relations, root);
}

// Visits the rows of a small table of our own as of now. False if it is locked: a commit does not wait here,
// where no timeout holds, and who locks this table is changing what is in it.
template <typename Visit>
bool visit_rows(OwnRelation own, std::initializer_list<const char*> columns, Visit visit) {
    const Oid table = own_relation(own);
    if (!OidIsValid(table)) return true;
    if (!ConditionalLockRelationOid(table, AccessShareLock)) return false;
    if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table))) return false;
    Relation relation = table_open(table, NoLock);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot, 0, nullptr);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        for (const char* column : columns) {
            bool isnull = false;
            const Datum value =
                heap_getattr(tuple, get_attnum(table, column), RelationGetDescr(relation), &isnull);
            if (!isnull) visit(value);
        }
    }
    systable_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(relation, AccessShareLock);
    return true;
}

}  // namespace

SourceSet current_sources() {
    if (!OidIsValid(own_relation(OwnRelation::kAttachment))) return SourceSet();
    FoundLocal found;
    // Not our own schema: a GRANT on it would count, and while it has another name no change goes through.
    for (const OwnRelation own :
         {OwnRelation::kAttachment, OwnRelation::kApplication, OwnRelation::kUserPromptCache,
          OwnRelation::kTagNonce, OwnRelation::kNamespace, OwnRelation::kWatch, OwnRelation::kReader})
        found.relations = lappend_oid(found.relations, own_relation(own));
    const auto add = [&](Datum table) { add_table(found, DatumGetObjectId(table)); };
    if (!visit_rows(OwnRelation::kAttachment, {"users", "tenants"}, add) ||
        !visit_rows(OwnRelation::kWatch, {"source"}, add) ||
        !visit_rows(OwnRelation::kNamespace, {"builder"}, [&](Datum) { found.has_builders = true; }))
        return SourceSet::unknown();
    return SourceSet(found.relations, found.schemas, found.has_builders);
}

}  // namespace prompt_cache
