#include "pg/catalog.hpp"

extern "C" {
#include "catalog/pg_proc.h"
}

namespace prompt_cache {

namespace {

constexpr const char* kNames[] = {"attachment", "application", "user_prompt_cache", "tag_nonce",
                                  "tag_nonce_pkey", "namespace", "watch", "reader", "incarnation", "usage_order"};

// An oid that was found to be ours stays ours: a relation that takes its name has another oid.
Oid verified_local[std::size(kNames)];
Oid database_local = InvalidOid;

bool is_of_extension(Oid catalog, Oid object) {
    const Oid extension = getExtensionOfObject(catalog, object);
    if (!OidIsValid(extension)) return false;
    const char* name = get_extension_name(extension);
    return name && strcmp(name, kExtension) == 0;
}

// An index belongs to its table and is no member itself.
bool is_member(Oid relation) {
    const Oid table =
        get_rel_relkind(relation) == RELKIND_INDEX ? IndexGetRelation(relation, true) : relation;
    if (!OidIsValid(table) || get_rel_relkind(table) != RELKIND_RELATION) return false;
    return is_of_extension(RelationRelationId, table);
}

}  // namespace

Oid own_relation(OwnRelation relation) {
    const auto number = static_cast<unsigned>(relation);
    const Oid schema = get_namespace_oid(kSchema, true);
    const Oid found = OidIsValid(schema) ? get_relname_relid(kNames[number], schema) : InvalidOid;
    if (!OidIsValid(found)) return InvalidOid;
    if (database_local != MyDatabaseId) {
        std::fill(std::begin(verified_local), std::end(verified_local), InvalidOid);
        database_local = MyDatabaseId;
    }
    if (verified_local[number] != found) {
        if (!is_member(found)) return InvalidOid;
        verified_local[number] = found;
    }
    return found;
}

std::optional<OwnRelation> own_relation_of(Relation relation) {
    for (unsigned i = 0; i < std::size(kNames); i++)
        if (strcmp(RelationGetRelationName(relation), kNames[i]) == 0) {
            const auto own = static_cast<OwnRelation>(i);
            if (own_relation(own) == RelationGetRelid(relation)) return own;
            break;
        }
    return std::nullopt;
}

Oid own_trigger_function() {
    const Oid schema = get_namespace_oid(kSchema, true);
    if (!OidIsValid(schema)) return InvalidOid;
    const Oid function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("_source_changed"),
                                         PointerGetDatum(buildoidvector(nullptr, 0)), ObjectIdGetDatum(schema));
    return OidIsValid(function) && is_of_extension(ProcedureRelationId, function) ? function : InvalidOid;
}

bool lock_extension() {
    const Oid extension = get_extension_oid(kExtension, true);
    if (!OidIsValid(extension)) return false;
    LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
    return get_extension_oid(kExtension, true) == extension;
}

bool try_lock_own_tables() {
    for (const OwnRelation table : {OwnRelation::kAttachment, OwnRelation::kApplication,
                                    OwnRelation::kUserPromptCache, OwnRelation::kTagNonce,
                                    OwnRelation::kUsageOrder, OwnRelation::kReader}) {
        const Oid oid = own_relation(table);
        if (!OidIsValid(oid) || !ConditionalLockRelationOid(oid, RowExclusiveLock)) return false;
    }
    return true;
}

Oid owner_of(OwnRelation relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(own_relation(relation)));
    if (!HeapTupleIsValid(tuple))
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_TABLE),
                 errmsg("table prompt_cache.%s does not exist", kNames[static_cast<unsigned>(relation)]),
                 errhint("Run CREATE EXTENSION prompt_cache in this database.")));
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

}  // namespace prompt_cache
