// The relations whose definition the cache depends on: the attached and the watched tables with all their
// partitions, and the extension's own tables that hold the wiring and the application prompt. The schemas of
// these tables belong to it too: builder queries name them, and renaming a schema says nothing about the tables
// in it. And so do the functions and types that expressions over their rows are made of.
//
// Where namespaces have builders, which are functions of the user's, every function, operator, cast, enum, collation,
// composite type, schema, view and text search configuration may be a part of one: what a function calls is not known. Such DDL empties more than it must.
#pragma once

#include "pg/expression_objects.hpp"
#include "pg/postgres.hpp"

namespace prompt_cache {

// Does a catalog cache tell of what a builder may be made of? Types do not: every CREATE TEMP TABLE makes one.
inline bool is_code_cache(int cache) noexcept {
    return cache == PROCOID || cache == OPEROID || cache == CASTSOURCETARGET || cache == ENUMOID ||
           cache == NAMESPACEOID || cache == COLLOID || cache == TSCONFIGOID || cache == TSCONFIGMAP || cache == TSDICTOID;
}

// The same of a relation that a message is about.
inline bool is_code_relation(char kind) noexcept {
    return kind == RELKIND_VIEW || kind == RELKIND_COMPOSITE_TYPE;
}

class SourceSet {
  public:
    // Where the wiring itself is being changed by somebody else: anything may be a source.
    static SourceSet unknown() {
        SourceSet set;
        set.unknown_ = true;
        return set;
    }
    bool empty() const { return relations_ == NIL && !unknown_; }
    bool contains(Oid relation) const {
        return unknown_ || any_table_ || list_member_oid(relations_, relation) ||
               (has_builders_ && is_code_relation(get_rel_relkind(relation)));
    }
    bool has_builders() const { return unknown_ || any_table_ || has_builders_; }

    // A schema, or what an expression is made of; see expression_objects.hpp. Expressions are read when first
    // asked; one that cannot be read may be made of anything.
    bool contains_object(std::uint32_t object);

    void add_relations(List* relations) { relations_ = list_concat(relations_, relations); }
    void add_schema(Oid schema);
    void add_builder() { has_builders_ = true; }
    // An attach() or create_namespace() is under way: any table or code may become a source.
    void add_any_table() { any_table_ = true; }
    void add_expression(Oid relation, const char* text);  // a column, which brings nothing, or an expression

  private:
    List* relations_ = NIL;  // in the memory context it was made in, as the others
    ExpressionObjects objects_;
    List* expressions_ = NIL;  // not read yet: texts, and the relations that they are about
    List* expression_relations_ = NIL;
    bool has_builders_ = false;
    bool any_table_ = false;
    bool unknown_ = false;
};

// As of now, own changes included: not under any statement's snapshot, since it is asked what this
// transaction's DDL may concern, and an attach() of somebody else must not be missed. Empty where nothing is
// attached.
SourceSet current_sources();

// The same, and they stay what they are until the end of this transaction: an attach() or create_namespace() waits.
SourceSet sources_until_end();

}  // namespace prompt_cache
