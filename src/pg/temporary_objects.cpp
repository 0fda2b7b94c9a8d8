#include "pg/temporary_objects.hpp"

#include "pg/expression_objects.hpp"

extern "C" {
#include "catalog/pg_cast.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_ts_config.h"
#include "catalog/pg_ts_config_map.h"
#include "catalog/pg_ts_dict.h"
#include "tsearch/ts_cache.h"
#include "utils/catcache.h"
}

namespace prompt_cache::temporary_objects {

namespace {

// Beyond these DDL counts as that on other objects.
struct NumbersLocal {
    static constexpr std::size_t kMax = 1024;
    std::array<std::uint32_t, kMax> numbers{};
    std::size_t count = 0;

    bool contains(std::uint32_t number) const noexcept {
        return std::find(numbers.begin(), numbers.begin() + count, number) != numbers.begin() + count;
    }
    void add(std::uint32_t number) noexcept {
        if (count < kMax && !contains(number)) numbers[count++] = number;
    }
} numbers_local;

// Objects whose parts are looked up again at the end.
struct WholesLocal {
    struct Whole {
        int cache;
        Oid object;
    };
    std::array<Whole, 64> wholes{};
    std::size_t count = 0;

    void add(int cache, Oid object) noexcept {
        if (count < wholes.size()) wholes[count++] = {cache, object};
    }
} wholes_local;

struct Catalog {
    Oid table;
    Oid index;
    AttrNumber oid;
    AttrNumber schema;
    int cache;
};
constexpr Catalog kCatalogs[] = {
    {ProcedureRelationId, ProcedureOidIndexId, Anum_pg_proc_oid, Anum_pg_proc_pronamespace, PROCOID},
    {OperatorRelationId, OperatorOidIndexId, Anum_pg_operator_oid, Anum_pg_operator_oprnamespace, OPEROID},
    {TypeRelationId, TypeOidIndexId, Anum_pg_type_oid, Anum_pg_type_typnamespace, TYPEOID},
    {CollationRelationId, CollationOidIndexId, Anum_pg_collation_oid, Anum_pg_collation_collnamespace, COLLOID},
    {TSConfigRelationId, TSConfigOidIndexId, Anum_pg_ts_config_oid, Anum_pg_ts_config_cfgnamespace, TSCONFIGOID},
    {TSDictionaryRelationId, TSDictionaryOidIndexId, Anum_pg_ts_dict_oid, Anum_pg_ts_dict_dictnamespace, TSDICTOID},
};

// Calls `visit` with the object's row and its descriptor, as of this very moment: a row that was just inserted is seen.
template <typename Visit>
void visit_row(Oid table, Oid index, AttrNumber oid, Oid object, Visit visit) {
    Relation catalog = table_open(table, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object));
    SysScanDesc scan = systable_beginscan(catalog, index, true, SnapshotSelf, 1, &key);
    if (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple)) visit(tuple, RelationGetDescr(catalog));
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
}

Oid oid_column(HeapTuple tuple, TupleDesc descriptor, AttrNumber column) {
    bool isnull = false;
    return DatumGetObjectId(heap_getattr(tuple, column, descriptor, &isnull));
}

bool is_temporary_type(Oid type) {
    bool temporary = false;
    visit_row(TypeRelationId, TypeOidIndexId, Anum_pg_type_oid, type, [&](HeapTuple tuple, TupleDesc descriptor) {
        temporary = isAnyTempNamespace(oid_column(tuple, descriptor, Anum_pg_type_typnamespace));
    });
    return temporary;
}

// Rows that have messages of their own and no hook: the labels of an enum, the mapping of a text search configuration.
void add_parts(int cache, Oid object) {
    if (cache == TYPEOID) {
        CatCList* labels = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(object));
        for (int i = 0; i < labels->n_members; i++) {
            const auto* label = reinterpret_cast<Form_pg_enum>(GETSTRUCT(&labels->members[i]->tuple));
            numbers_local.add(catalog_object_of(ENUMOID, label->oid));
        }
        ReleaseSysCacheList(labels);
    } else if (cache == TSCONFIGOID) {
        CatCList* map = SearchSysCacheList1(TSCONFIGMAP, ObjectIdGetDatum(object));
        for (int i = 0; i < map->n_members; i++) {
            const auto* entry = reinterpret_cast<Form_pg_ts_config_map>(GETSTRUCT(&map->members[i]->tuple));
            numbers_local.add(catalog_object(
                TSCONFIGMAP, GetSysCacheHashValue3(TSCONFIGMAP, ObjectIdGetDatum(object),
                                                   Int32GetDatum(entry->maptokentype), Int32GetDatum(entry->mapseqno))));
        }
        ReleaseSysCacheList(map);
    }
}

void note_cast(Oid object) {
    visit_row(CastRelationId, CastOidIndexId, Anum_pg_cast_oid, object, [](HeapTuple tuple, TupleDesc descriptor) {
        const Oid source = oid_column(tuple, descriptor, Anum_pg_cast_castsource);
        const Oid target = oid_column(tuple, descriptor, Anum_pg_cast_casttarget);
        if (is_temporary_type(source) || is_temporary_type(target))
            numbers_local.add(catalog_object(
                CASTSOURCETARGET,
                GetSysCacheHashValue2(CASTSOURCETARGET, ObjectIdGetDatum(source), ObjectIdGetDatum(target))));
    });
}

void note_schema(Oid object) {
    visit_row(NamespaceRelationId, NamespaceOidIndexId, Anum_pg_namespace_oid, object, [=](HeapTuple tuple, TupleDesc) {
        const std::string_view name = NameStr(reinterpret_cast<Form_pg_namespace>(GETSTRUCT(tuple))->nspname);
        if (name.starts_with("pg_temp_") || name.starts_with("pg_toast_temp_"))
            numbers_local.add(catalog_object_of(NAMESPACEOID, object));
    });
}

}  // namespace

void note(Oid catalog, Oid object) {
    if (!IsNormalProcessingMode() || numbers_local.count == NumbersLocal::kMax) return;
    if (catalog == NamespaceRelationId) return note_schema(object);
    if (catalog == CastRelationId) return note_cast(object);
    for (const Catalog& each : kCatalogs) {
        if (each.table != catalog) continue;
        bool temporary = false;
        visit_row(each.table, each.index, each.oid, object, [&](HeapTuple tuple, TupleDesc descriptor) {
            temporary = isAnyTempNamespace(oid_column(tuple, descriptor, each.schema));
        });
        if (!temporary) return;
        numbers_local.add(catalog_object_of(each.cache, object));
        add_parts(each.cache, object);
        if (each.cache == TYPEOID || each.cache == TSCONFIGOID) wholes_local.add(each.cache, object);
    }
}

void note_configuration(const List* name) {
    const Oid configuration = get_ts_config_oid(const_cast<List*>(name), true);
    if (OidIsValid(configuration)) note(TSConfigRelationId, configuration);
}

void note_own_functions() {
    const Oid schema = LookupNamespaceNoError("pg_temp");
    if (!OidIsValid(schema)) return;
    Relation catalog = table_open(ProcedureRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_proc_pronamespace, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(schema));
    SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 1, &key);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));)
        numbers_local.add(catalog_object_of(PROCOID, reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->oid));
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
}

void complete() {
    for (std::size_t i = 0; i < wholes_local.count; i++) add_parts(wholes_local.wholes[i].cache, wholes_local.wholes[i].object);
}

bool contains(std::uint32_t number) noexcept {
    return numbers_local.contains(number);
}

void forget() noexcept {
    numbers_local.count = wholes_local.count = 0;
}

}  // namespace prompt_cache::temporary_objects
