// Looking up the extension's own objects by name. They are few and found through the server's caches, so oids
// are not remembered: DROP and re-CREATE of the extension changes them.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

inline constexpr const char* kSchema = "prompt_cache";
inline constexpr const char* kExtension = "prompt_cache";

inline Oid own_relation(const char* name) {
    const Oid schema = get_namespace_oid(kSchema, true);
    return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

// The owner of one of our tables. ERROR with a hint where the extension is not installed.
inline Oid owner_of_own_relation(const char* name) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(own_relation(name)));
    if (!HeapTupleIsValid(tuple))
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table prompt_cache.%s does not exist", name),
                 errhint("Run CREATE EXTENSION prompt_cache in this database.")));
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

}  // namespace prompt_cache
