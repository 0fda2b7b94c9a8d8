#include "cache/sources.hpp"

#include "cache/own_rows.hpp"
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

void SourceSet::add_expression(Oid relation, const char* text) {
    if (get_attnum(relation, text) > 0) return;
    expressions_ = lappend(expressions_, pstrdup(text));
    expression_relations_ = lappend_oid(expression_relations_, relation);
}

namespace {

// Not our own schema: a GRANT on it would count, and while it has another name no change goes through. A source
// that is being dropped is still one, though the catalogs know no more of it.
void add_table(SourceSet& sources, Oid root) {
    sources.add_schema(get_rel_namespace(root));
    sources.add_relations(SearchSysCacheExists1(RELOID, ObjectIdGetDatum(root))
                              ? find_all_inheritors(root, NoLock, nullptr)
                              : list_make1_oid(root));
}

void add_attachment(SourceSet& sources, const OwnRow& row) {
    for (const auto& [table, prompt] : {std::pair{"users", "user_prompt"}, {"tenants", "tenant_prompt"}}) {
        const std::optional<Datum> source = row.column(table);
        if (!source) continue;
        add_table(sources, DatumGetObjectId(*source));
        if (const std::optional<Datum> expression = row.column(prompt))
            sources.add_expression(DatumGetObjectId(*source), TextDatumGetCString(*expression));
    }
}

void add_watch(SourceSet& sources, const OwnRow& row) {
    const std::optional<Datum> source = row.column("source");
    if (!source) return;
    add_table(sources, DatumGetObjectId(*source));
    if (const std::optional<Datum> key = row.column("key"))
        sources.add_expression(DatumGetObjectId(*source), TextDatumGetCString(*key));
}

SourceSet read_sources(LOCKMODE wanted) {
    LOCKMODE lock = wanted;
    if (!OidIsValid(own_relation(OwnRelation::kAttachment))) return SourceSet();
    SourceSet sources;
    for (const OwnRelation own :
         {OwnRelation::kAttachment, OwnRelation::kApplication, OwnRelation::kUserPromptCache,
          OwnRelation::kTagNonce, OwnRelation::kNamespace, OwnRelation::kWatch, OwnRelation::kReader})
        sources.add_relations(list_make1_oid(own_relation(own)));
    const bool known =
        visit_own_rows(OwnRelation::kAttachment, lock, [&](const OwnRow& row) { add_attachment(sources, row); }) &&
        visit_own_rows(OwnRelation::kWatch, lock, [&](const OwnRow& row) { add_watch(sources, row); }) &&
        visit_own_rows(OwnRelation::kNamespace, lock, [&](const OwnRow& row) {
            if (row.column("builder")) sources.add_builder();
        });
    if (lock != wanted) sources.add_any_table();
    return known ? sources : SourceSet::unknown();
}

}  // namespace

SourceSet current_sources() {
    return read_sources(AccessShareLock);
}

SourceSet sources_until_end() {
    return read_sources(RowShareLock);
}

}  // namespace prompt_cache
