// What the meaning and the values of an expression over a row depend on besides the row's relation:
// functions, operators, types, enum labels, casts and collations of the user's, which DDL may replace.
// PostgreSQL's own cannot change. Functions that these call are not known.
//
// Objects are known by what the server's invalidation messages carry, a catalog cache and a hash value, here
// folded into one number. Two objects with one number cost an invalidation too many.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

// The caches whose messages are listened to. Relations that are the definition of a composite type have no
// cache here: their messages are those about relations.
inline constexpr int kObjectCaches[] = {NAMESPACEOID, PROCOID, OPEROID,         TYPEOID,
                                        ENUMOID,      COLLOID, CASTSOURCETARGET,
                                        TSCONFIGOID,  TSCONFIGMAP, TSDICTOID};
inline constexpr int kNoCache = -1;

constexpr std::uint32_t catalog_object(int cache, std::uint32_t hash) noexcept {
    const std::uint32_t object = hash ^ (static_cast<std::uint32_t>(cache + 1) * 0x9e3779b1u);
    return object == 0 ? 1 : object;  // 0 stands for anything
}

inline std::uint32_t catalog_object_of(int cache, Oid oid) {
    return catalog_object(cache, GetSysCacheHashValue1(cache, ObjectIdGetDatum(oid)));
}

// A row of a catalog that has a cache by its oid.
struct CatalogRow {
    std::int32_t cache;
    Oid oid;

    bool operator==(const CatalogRow&) const = default;
};

struct ExpressionObjects {
    List* numbers = NIL;               // catalog_object() of each, as integers
    List* rows = NIL;                  // cache and oid of each that is a row, as integers, in pairs
    Oid stable_function = InvalidOid;  // one of the user's, which may read tables that nobody watches
    Bitmapset* columns = nullptr;      // that it reads, by their numbers
};

// Adds what a tree of expression_tree.hpp is made of.
void add_objects_of(Node* tree, ExpressionObjects& objects);

// The same of a text. False if it is no expression over a row of the relation (any more), or the relation is
// gone. With `may_wait` the relation is locked as a query would; without, a relation that somebody is
// changing counts as gone.
bool add_expression_objects(Oid relation, const char* text, bool may_wait, ExpressionObjects& objects);

// Functions and types are taken from this backend's caches, which hear of a change some time after snapshots
// see it. Do they hold just those versions that the snapshot sees?
bool cached_as_seen(std::span<const CatalogRow> rows, Snapshot snapshot);

}  // namespace prompt_cache
