// attach() and detach(): the caller must own the tables; the work is done as the extension's owner.
//
// Not SECURITY DEFINER: inside such a function nobody can tell who called it. The role that calls is asked
// here, before the switch, and that also holds where a superuser runs somebody else's code (an index
// expression under ANALYZE).
#include "exports.hpp"
#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"
#include "pg/query.hpp"

namespace prompt_cache {

namespace {

bool is_owner(Oid relation) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(RelationRelationId, relation, GetUserId());
#else
    return pg_class_ownercheck(relation, GetUserId());
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

}  // namespace prompt_cache
