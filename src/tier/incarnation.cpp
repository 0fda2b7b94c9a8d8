#include "tier/incarnation.hpp"

#include "pg/catalog.hpp"

namespace prompt_cache {

namespace {

// Another incarnation is another table.
struct IncarnationLocal {
    Oid table = InvalidOid;
    std::int64_t number = 0;
} incarnation_local;

// One row; should replication have brought another one, they count together.
std::int64_t read_number(Oid table) {
    std::int64_t number = 0;
    Relation relation = table_open(table, AccessShareLock);
    SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, nullptr, 0, nullptr);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        bool isnull = false;
        number ^= DatumGetInt64(heap_getattr(tuple, 1, RelationGetDescr(relation), &isnull));
    }
    systable_endscan(scan);
    table_close(relation, AccessShareLock);
    return number;
}

}  // namespace

std::optional<std::int64_t> incarnation() {
    const Oid table = own_relation(OwnRelation::kIncarnation);
    if (!OidIsValid(table)) return std::nullopt;
    if (incarnation_local.table != table) {
        incarnation_local.table = InvalidOid;
        incarnation_local.number = read_number(table);
        incarnation_local.table = table;
    }
    return incarnation_local.number;
}

std::string_view print_scope(Oid database, std::int64_t number, ScopeText& buffer) noexcept {
    const int length = snprintf(buffer.data(), buffer.size(), "%llu.%u.%016llx",
                                static_cast<unsigned long long>(GetSystemIdentifier()), database,
                                static_cast<unsigned long long>(number));
    return {buffer.data(), static_cast<std::size_t>(length)};
}

}  // namespace prompt_cache
