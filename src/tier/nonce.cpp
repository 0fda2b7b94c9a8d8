#include "tier/nonce.hpp"

#include "pg/catalog.hpp"
#include "pg/snapshot.hpp"

namespace prompt_cache {

namespace {

enum Column { kTag = 1, kNonce, kWeight, kSalt, kColumns = kSalt };

std::int64_t random_nonce() {
    std::int64_t nonce = 0;
    if (!pg_strong_random(&nonce, sizeof(nonce)))
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("prompt_cache could not get random bytes")));
    return nonce;
}

// Stamps asked for under one snapshot, by the low bits of the tag.
struct StampsLocal {
    static constexpr std::size_t kCells = 64;
    struct Cell {
        bool filled;
        Tag tag;
        Stamp stamp;
    };
    Oid database = InvalidOid;
    SnapshotIdentity snapshot;
    std::array<Cell, kCells> cells{};
} stamps_local;

Stamp read_stamp(Tag tag, Snapshot snapshot) {
    Stamp stamp;
    const Oid table = own_relation(OwnRelation::kTagNonce);
    if (!OidIsValid(table)) return {-1, random_nonce()};  // equal to no other: without the table nothing is proved
    Relation relation = table_open(table, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, kTag, BTEqualStrategyNumber, F_INT8EQ,
                Int64GetDatum(static_cast<std::int64_t>(tag.hash)));
    SysScanDesc scan =
        systable_beginscan(relation, own_relation(OwnRelation::kTagNonceKey), true, snapshot, 1, &key);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        bool isnull = false;
        stamp.nonces ^= DatumGetInt64(heap_getattr(tuple, kNonce, RelationGetDescr(relation), &isnull));
        stamp.weight += DatumGetInt64(heap_getattr(tuple, kWeight, RelationGetDescr(relation), &isnull));
    }
    systable_endscan(scan);
    table_close(relation, AccessShareLock);
    return stamp;
}

}  // namespace

void insert_nonces(std::span<const Tag> tags) {
    const Oid table = own_relation(OwnRelation::kTagNonce);
    // pg_upgrade makes the extension's objects one by one and changes no row.
    if (tags.empty() || IsBinaryUpgrade) return;
    if (!OidIsValid(table)) {
        // Without the extension there is nothing to prove. With it, a change must not go through unproved.
        if (!OidIsValid(get_extension_oid(kExtension, true))) return;
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("table prompt_cache.tag_nonce is missing or renamed"),
                        errdetail("A change of a prompt's source must leave its proof there."),
                        errhint("Give it and its schema their names back.")));
    }
    Relation relation = table_open(table, RowExclusiveLock);
    if (RelationGetDescr(relation)->natts != kColumns)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("table prompt_cache.tag_nonce has another shape than this library expects"),
                        errhint("Run ALTER EXTENSION prompt_cache UPDATE.")));
    for (const Tag tag : tags) {
        Datum values[kColumns];
        bool nulls[kColumns] = {};
        values[kTag - 1] = Int64GetDatum(static_cast<std::int64_t>(tag.hash));
        values[kNonce - 1] = Int64GetDatum(random_nonce());
        values[kWeight - 1] = Int64GetDatum(1);
        values[kSalt - 1] = Int64GetDatum(random_nonce());
        HeapTuple tuple = heap_form_tuple(RelationGetDescr(relation), values, nulls);
        CatalogTupleInsert(relation, tuple);
        heap_freetuple(tuple);
    }
    table_close(relation, NoLock);
}

void forget_stamps() noexcept {
    stamps_local.snapshot.xmax = InvalidTransactionId;
}

Stamp stamp_under(Tag tag, Snapshot snapshot) {
    return stamp_under(tag, snapshot, identity_of(snapshot));
}

Stamp stamp_under(Tag tag, Snapshot snapshot, SnapshotIdentity identity) {
    // Own nonces are written at the very end, so within a transaction the command does not matter; and from
    // one transaction to the next nothing but the snapshot does, as long as none had an id (see
    // forget_stamps).
    identity.transaction = InvalidLocalTransactionId;
    identity.command = 0;
    if (stamps_local.snapshot != identity || stamps_local.database != MyDatabaseId) {
        stamps_local.cells.fill({});
        stamps_local.snapshot = identity;
        stamps_local.database = MyDatabaseId;
    }
    StampsLocal::Cell& cell = stamps_local.cells[tag.hash % StampsLocal::kCells];
    if (cell.filled && cell.tag == tag) return cell.stamp;
    const Stamp stamp = read_stamp(tag, snapshot);
    cell = {true, tag, stamp};
    return stamp;
}

}  // namespace prompt_cache
