#include "pg/builder_function.hpp"

extern "C" {
#include "catalog/pg_authid.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "utils/array.h"
}

namespace prompt_cache {

namespace {

bool has_search_path(HeapTuple function) {
    bool isnull = false;
    const Datum settings = SysCacheGetAttr(PROCOID, function, Anum_pg_proc_proconfig, &isnull);
    if (isnull) return false;
    Datum* items = nullptr;
    int count = 0;
    deconstruct_array(DatumGetArrayTypeP(settings), TEXTOID, -1, false, TYPALIGN_INT, &items, nullptr, &count);
    return std::any_of(items, items + count,
                       [](Datum item) { return view_of(DatumGetTextPP(item)).starts_with("search_path="); });
}

Oid owner_of_database() {
    HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
    if (!HeapTupleIsValid(tuple)) return InvalidOid;
    const Oid owner = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple))->datdba;
    ReleaseSysCache(tuple);
    return owner;
}

// Superusers can act as anybody. The one member of pg_database_owner is the owner of the database.
bool can_act_as(Oid role, Oid owner) {
    return has_privs_of_role(role == ROLE_PG_DATABASE_OWNER ? owner_of_database() : role, owner);
}

// Whom the schema's rights let create objects there and who cannot act as `owner`: a list as GRANT has it, '' if nobody.
const char* strangers_who_create(HeapTuple schema, Oid owner) {
    bool isnull = false;
    const Datum rights = SysCacheGetAttr(NAMESPACEOID, schema, Anum_pg_namespace_nspacl, &isnull);
    if (isnull) return "";  // the schema's owner alone
    const Acl* acl = DatumGetAclP(rights);
    StringInfoData names;
    initStringInfo(&names);
    for (const AclItem& item : std::span(ACL_DAT(acl), static_cast<std::size_t>(ACL_NUM(acl)))) {
        const bool is_public = item.ai_grantee == ACL_ID_PUBLIC;
        if (!(ACLITEM_GET_PRIVS(item) & ACL_CREATE) || (!is_public && can_act_as(item.ai_grantee, owner))) continue;
        const char* name = is_public ? "PUBLIC" : GetUserNameFromId(item.ai_grantee, true);
        if (!name) continue;
        appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", is_public ? name : quote_identifier(name));
    }
    return names.data;
}

const char* role_name(Oid role) {
    const char* name = GetUserNameFromId(role, true);
    return name ? quote_identifier(name) : psprintf("%u", role);
}

void look_for_strangers(HeapTuple function, HeapTuple schema, BuilderFunction& builder) {
    const auto* form = reinterpret_cast<Form_pg_namespace>(GETSTRUCT(schema));
    const char* called = quote_identifier(NameStr(form->nspname));
    const char* names = strangers_who_create(schema, builder.owner);
    const bool is_of_stranger = !can_act_as(form->nspowner, builder.owner);
    if (!is_of_stranger && names[0] == '\0') return;
    const char* name = NameStr(reinterpret_cast<Form_pg_proc>(GETSTRUCT(function))->proname);
    const char* signature = psprintf("%s(text)", quote_qualified_identifier(NameStr(form->nspname), name));
    builder.problem = psprintf("%s may create objects in schema %s, where builder %s looks up names with the rights of role %s",
                               is_of_stranger ? role_name(form->nspowner) : names, called, signature, role_name(builder.owner));
    builder.hint = is_of_stranger ? psprintf("ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp;", signature)
                                  : psprintf("REVOKE CREATE ON SCHEMA %s FROM %s;", called, names);
}

}  // namespace

BuilderFunction look_up_builder(Oid function) {
    BuilderFunction builder;
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    HeapTuple schema = nullptr;
    if (HeapTupleIsValid(tuple)) {
        const auto* form = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
        builder.owner = form->proowner;
        schema = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(form->pronamespace));
    }
    if (!HeapTupleIsValid(schema)) {
        builder.problem = "its builder is gone";
    } else {
        const auto* form = reinterpret_cast<Form_pg_namespace>(GETSTRUCT(schema));
        builder.search_path = psprintf("%s, pg_temp", quote_identifier(NameStr(form->nspname)));
        if (isAnyTempNamespace(form->oid))
            builder.problem = "its builder is in a temporary schema";
        else if (!has_search_path(tuple))
            look_for_strangers(tuple, schema, builder);
        ReleaseSysCache(schema);
    }
    if (HeapTupleIsValid(tuple)) ReleaseSysCache(tuple);
    return builder;
}

}  // namespace prompt_cache
