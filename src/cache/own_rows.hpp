// Reading the small tables of the extension that say what is registered: `attachment`, `watch`, `namespace`.
#pragma once

#include "pg/catalog.hpp"
#include "pg/postgres.hpp"

namespace prompt_cache {

class OwnRow {
  public:
    OwnRow(Relation relation, HeapTuple tuple) : relation_(relation), tuple_(tuple) {}
    std::optional<Datum> column(const char* name) const {
        bool isnull = false;
        const Datum value = heap_getattr(tuple_, get_attnum(RelationGetRelid(relation_), name),
                                         RelationGetDescr(relation_), &isnull);
        if (isnull) return std::nullopt;
        return value;
    }

  private:
    Relation relation_;
    HeapTuple tuple_;
};

// Visits the rows of one of these tables as of now, own changes included. False if somebody holds the table
// exclusively: a writer or a commit does not wait here, where no timeout holds. `lock` is RowShareLock to keep others
// from changing the table until the end of the transaction, or AccessShareLock for the time of the call; RowShareLock
// falls back to AccessShareLock, and `lock` says so, where somebody is about to change what is in the table.
template <typename Visit>
bool visit_own_rows(OwnRelation own, LOCKMODE& lock, Visit visit) {
    const Oid table = own_relation(own);
    if (!OidIsValid(table)) return true;
    if (!ConditionalLockRelationOid(table, lock)) {
        if (lock == AccessShareLock || !ConditionalLockRelationOid(table, AccessShareLock)) return false;
        lock = AccessShareLock;
    }
    if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table))) return false;
    Relation relation = table_open(table, NoLock);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot, 0, nullptr);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) visit(OwnRow(relation, tuple));
    systable_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(relation, lock == AccessShareLock ? lock : NoLock);
    return true;
}

}  // namespace prompt_cache
