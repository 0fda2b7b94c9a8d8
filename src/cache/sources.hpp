// The relations whose definition the cache depends on: the attached tables with all their partitions, and the
// extension's own tables that hold the wiring and the application prompt. The schemas of the attached tables
// belong to it too: builder queries name them, and renaming a schema says nothing about the tables in it. And
// so do the functions and types that expressions over their rows are made of.
#pragma once

#include "pg/expression_objects.hpp"
#include "pg/postgres.hpp"

namespace prompt_cache {

class SourceSet {
  public:
    // Where the wiring itself is being changed by somebody else: anything may be a source.
    static SourceSet unknown() {
        SourceSet set;
        set.unknown_ = true;
        return set;
    }
    bool empty() const { return relations_ == NIL && !unknown_; }
    bool contains(Oid relation) const { return unknown_ || list_member_oid(relations_, relation); }

    // A schema, or what an expression is made of; see expression_objects.hpp. Expressions are read when first
    // asked; one that cannot be read may be made of anything.
    bool contains_object(std::uint32_t object);

    void add_relations(List* relations) { relations_ = list_concat(relations_, relations); }
    void add_schema(Oid schema);
    void add_prompt(Oid relation, const char* text);  // a column, which brings nothing, or an expression

  private:
    List* relations_ = NIL;  // in the memory context it was made in, as the others
    ExpressionObjects objects_;
    List* expressions_ = NIL;  // not read yet: texts, and the relations that they are about
    List* expression_relations_ = NIL;
    bool unknown_ = false;
};

// As of now, own changes included: not under any statement's snapshot, since it is asked what this
// transaction's DDL may concern, and an attach() of somebody else must not be missed. Empty where nothing is
// attached.
SourceSet current_sources();

}  // namespace prompt_cache
