#include "cache/sources.hpp"

#include "pg/catalog.hpp"
#include "pg/expression_objects.hpp"

namespace prompt_cache {

bool SourceSet::contains_object(std::uint32_t object) {
    while (expressions_ != NIL && !unknown_) {
        unknown_ = !add_expression_objects(linitial_oid(expression_relations_),
                                           static_cast<const char*>(linitial(expressions_)), false, objects_);
        expressions_ = list_delete_first(expressions_);
        expression_relations_ = list_delete_first(expression_relations_);
    }
    return unknown_ || list_member_int(objects_.numbers, static_cast<int>(object));
}

void SourceSet::add_schema(Oid schema) {
    objects_.numbers =
        lappend_int(objects_.numbers, static_cast<int>(catalog_object_of(NAMESPACEOID, schema)));
}

void SourceSet::add_prompt(Oid relation, const char* text) {
    if (get_attnum(relation, text) > 0) return;
    expressions_ = lappend(expressions_, pstrdup(text));
    expression_relations_ = lappend_oid(expression_relations_, relation);
}

namespace {

std::optional<Datum> column_of(Oid table, Relation relation, HeapTuple tuple, const char* column) {
    bool isnull = false;
    const Datum value = heap_getattr(tuple, get_attnum(table, column), RelationGetDescr(relation), &isnull);
    if (isnull) return std::nullopt;
    return value;
}

}  // namespace

SourceSet current_sources() {
    const Oid attachment = own_relation(OwnRelation::kAttachment);
    if (!OidIsValid(attachment)) return SourceSet();

    SourceSet sources;
    sources.add_relations(list_make4_oid(attachment, own_relation(OwnRelation::kApplication),
                                         own_relation(OwnRelation::kUserPromptCache),
                                         own_relation(OwnRelation::kTagNonce)));
    // A commit does not wait here, where no timeout holds: who locks this table is changing the wiring.
    if (!ConditionalLockRelationOid(attachment, AccessShareLock)) return SourceSet::unknown();
    if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(attachment))) return SourceSet::unknown();
    Relation relation = table_open(attachment, NoLock);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot, 0, nullptr);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        for (const auto& [table, prompt] :
             {std::pair{"users", "user_prompt"}, {"tenants", "tenant_prompt"}}) {
            const auto value = [&](const char* column) {
                return column_of(attachment, relation, tuple, column);
            };
            const std::optional<Datum> source = value(table);
            if (!source) continue;
            // Not our own schema: a GRANT on it would count, and while it has another name no change goes
            // through. A source that is being dropped is still one, though the catalogs know no more of it.
            const Oid root = DatumGetObjectId(*source);
            sources.add_schema(get_rel_namespace(root));
            sources.add_relations(SearchSysCacheExists1(RELOID, ObjectIdGetDatum(root))
                                      ? find_all_inheritors(root, NoLock, nullptr)
                                      : list_make1_oid(root));
            if (const std::optional<Datum> expression = value(prompt))
                sources.add_prompt(root, TextDatumGetCString(*expression));
        }
    }
    systable_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(relation, AccessShareLock);
    return sources;
}

}  // namespace prompt_cache
