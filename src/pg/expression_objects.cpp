#include "pg/expression_objects.hpp"

#include "pg/as_owner.hpp"
#include "pg/expression_tree.hpp"
#include "pg/fixed_settings.hpp"
#include "pg/attempt.hpp"

extern "C" {
#include "access/relation.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "utils/catcache.h"
#include "utils/typcache.h"
}

namespace prompt_cache {

namespace {

void add_number(ExpressionObjects& objects, std::uint32_t number) {
    objects.numbers = list_append_unique_int(objects.numbers, static_cast<int>(number));
}

Oid schema_of(int cache, Oid oid, AttrNumber column) {
    HeapTuple tuple = SearchSysCache1(cache, ObjectIdGetDatum(oid));
    if (!HeapTupleIsValid(tuple)) return InvalidOid;
    bool isnull = false;
    const Oid schema = DatumGetObjectId(SysCacheGetAttr(cache, tuple, column, &isnull));
    ReleaseSysCache(tuple);
    return schema;
}

// An object of the user's, and its schema, with which it is named and whose renaming says nothing about what
// lies in it. False if there is nothing to add.
bool add(ExpressionObjects& objects, int cache, Oid oid, AttrNumber schema_column) {
    if (oid < FirstNormalObjectId) return false;
    const int known = list_length(objects.numbers);
    add_number(objects, catalog_object_of(cache, oid));
    if (list_length(objects.numbers) == known) return false;
    objects.rows = lappend_int(lappend_int(objects.rows, cache), static_cast<int>(oid));
    const Oid schema = schema_column > 0 ? schema_of(cache, oid, schema_column) : InvalidOid;
    if (OidIsValid(schema)) add_number(objects, catalog_object_of(NAMESPACEOID, schema));
    return true;
}

// What a cast casts: another cast between the same types would take its place.
Node* argument_of_cast(Node* node) {
    switch (nodeTag(node)) {
        case T_CoerceViaIO:
            return reinterpret_cast<Node*>(reinterpret_cast<CoerceViaIO*>(node)->arg);
        case T_RelabelType:
            return reinterpret_cast<Node*>(reinterpret_cast<RelabelType*>(node)->arg);
        case T_FuncExpr: {
            const auto* call = reinterpret_cast<FuncExpr*>(node);
            const bool cast =
                call->funcformat == COERCE_EXPLICIT_CAST || call->funcformat == COERCE_IMPLICIT_CAST;
            return cast ? static_cast<Node*>(linitial(call->args)) : nullptr;
        }
        default:
            return nullptr;
    }
}

void add_cast(ExpressionObjects& objects, Oid from, Oid to) {
    if (from < FirstNormalObjectId && to < FirstNormalObjectId) return;
    const std::uint32_t hash =
        GetSysCacheHashValue2(CASTSOURCETARGET, ObjectIdGetDatum(from), ObjectIdGetDatum(to));
    add_number(objects, catalog_object(CASTSOURCETARGET, hash));
}

// A label can be renamed without a word about the type.
void add_labels(ExpressionObjects& objects, Oid type) {
    CatCList* labels = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(type));
    for (int i = 0; i < labels->n_members; i++)
        add(objects, ENUMOID, reinterpret_cast<Form_pg_enum>(GETSTRUCT(&labels->members[i]->tuple))->oid, 0);
    ReleaseSysCacheList(labels);
}

// With the types that it is made of.
void add_type(ExpressionObjects& objects, Oid type) {
    if (!add(objects, TYPEOID, type, Anum_pg_type_typnamespace)) return;
    switch (get_typtype(type)) {
        case TYPTYPE_DOMAIN:
            add_type(objects, getBaseType(type));
            break;
        case TYPTYPE_ENUM:
            add_labels(objects, type);
            break;
        case TYPTYPE_RANGE:
            add_type(objects, get_range_subtype(type));
            break;
        case TYPTYPE_MULTIRANGE:
            add_type(objects, get_multirange_range(type));
            break;
        case TYPTYPE_COMPOSITE: {
            add_number(objects, catalog_object(kNoCache, get_typ_typrelid(type)));
            TupleDesc fields = lookup_rowtype_tupdesc(type, -1);
            for (int i = 0; i < fields->natts; i++)
                if (!TupleDescAttr(fields, i)->attisdropped)
                    add_type(objects, TupleDescAttr(fields, i)->atttypid);
            ReleaseTupleDesc(fields);
            break;
        }
        default:
            add_type(objects, get_element_type(type));
    }
}

bool add_function(Oid function, void* context) {
    add(*static_cast<ExpressionObjects*>(context), PROCOID, function, Anum_pg_proc_pronamespace);
    return false;
}

void add_operator(ExpressionObjects& objects, Oid oid) {
    add(objects, OPEROID, oid, Anum_pg_operator_oprnamespace);
}

void add_collation(ExpressionObjects& objects, Oid oid) {
    add(objects, COLLOID, oid, Anum_pg_collation_collnamespace);
}

bool add_node(Node* node, void* context) {
    if (!node) return false;
    auto& objects = *static_cast<ExpressionObjects*>(context);
    check_functions_in_node(node, add_function, context);
    if (IsA(node, List)) return walk_expression(node, add_node, context);
    add_type(objects, exprType(node));
    add_collation(objects, exprCollation(node));
    add_collation(objects, exprInputCollation(node));
    switch (nodeTag(node)) {
        case T_OpExpr:
        case T_DistinctExpr:
        case T_NullIfExpr:
            add_operator(objects, reinterpret_cast<OpExpr*>(node)->opno);
            break;
        case T_ScalarArrayOpExpr:
            add_operator(objects, reinterpret_cast<ScalarArrayOpExpr*>(node)->opno);
            break;
        default:
            break;
    }
    if (Node* argument = argument_of_cast(node)) add_cast(objects, exprType(argument), exprType(node));
    return walk_expression(node, add_node, context);
}

struct Catalog {
    int cache;
    Oid table;
    Oid index;
    AttrNumber oid;
};
constexpr Catalog kCatalogs[] = {
    {PROCOID, ProcedureRelationId, ProcedureOidIndexId, Anum_pg_proc_oid},
    {OPEROID, OperatorRelationId, OperatorOidIndexId, Anum_pg_operator_oid},
    {TYPEOID, TypeRelationId, TypeOidIndexId, Anum_pg_type_oid},
    {ENUMOID, EnumRelationId, EnumOidIndexId, Anum_pg_enum_oid},
    {COLLOID, CollationRelationId, CollationOidIndexId, Anum_pg_collation_oid},
};

// A row's version: where it lies, and who has put it there.
struct Version {
    ItemPointerData place;
    TransactionId writer;

    explicit Version(HeapTuple tuple)
        : place(tuple->t_self), writer(HeapTupleHeaderGetRawXmin(tuple->t_data)) {}
    bool operator==(const Version& other) const {
        return ItemPointerEquals(const_cast<ItemPointerData*>(&place),
                                 const_cast<ItemPointerData*>(&other.place)) &&
               writer == other.writer;
    }
};

std::optional<Version> cached_version(const CatalogRow& row) {
    HeapTuple tuple = SearchSysCache1(row.cache, ObjectIdGetDatum(row.oid));
    if (!HeapTupleIsValid(tuple)) return std::nullopt;
    const Version version(tuple);
    ReleaseSysCache(tuple);
    return version;
}

std::optional<Version> seen_version(const CatalogRow& row, Snapshot snapshot) {
    const auto* catalog = std::find_if(std::begin(kCatalogs), std::end(kCatalogs),
                                       [&](const Catalog& each) { return each.cache == row.cache; });
    if (catalog == std::end(kCatalogs)) return std::nullopt;
    Relation table = table_open(catalog->table, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, catalog->oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(row.oid));
    SysScanDesc scan = systable_beginscan(table, catalog->index, true, snapshot, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    std::optional<Version> version;
    if (HeapTupleIsValid(tuple)) version.emplace(tuple);
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return version;
}

Relation open(Oid relation, bool may_wait) {
    if (may_wait) return try_relation_open(relation, AccessShareLock);
    return ConditionalLockRelationOid(relation, AccessShareLock) ? try_relation_open(relation, NoLock)
                                                                 : nullptr;
}

void analyse_as_owner(Relation relation, const char* text, ExpressionObjects& objects) {
    const AsOwnerLocal before = begin_as_owner(relation->rd_rel->relowner);
    const int settings = fix_settings();
    const ExpressionTree expression = analyse_expression(relation, text);
    add_objects_of(expression.tree, objects);
    objects.columns = bms_add_members(objects.columns, expression.columns);
    if (OidIsValid(expression.stable_function)) objects.stable_function = expression.stable_function;
    restore_settings(settings);
    end_as_owner(before);
}

}  // namespace

void add_objects_of(Node* tree, ExpressionObjects& objects) {
    add_node(tree, &objects);
}

bool add_expression_objects(Oid relation_oid, const char* text, bool may_wait, ExpressionObjects& objects) {
    Relation relation = open(relation_oid, may_wait);
    if (!relation) return false;
    const bool fits = without_error([&] { analyse_as_owner(relation, text, objects); });
    relation_close(relation, NoLock);
    return fits;
}

bool cached_as_seen(std::span<const CatalogRow> rows, Snapshot snapshot) {
    return std::all_of(rows.begin(), rows.end(), [&](const CatalogRow& row) {
        // In this order: to lock the catalog is to hear of what has changed.
        const std::optional<Version> seen = seen_version(row, snapshot);
        return seen && seen == cached_version(row);
    });
}

}  // namespace prompt_cache
