// The relations whose definition the cache depends on: the attached and the watched tables with all their
// partitions, and the extension's own tables that hold the wiring and the application prompt. The schemas of
// these tables belong to it too: builder queries name them, and renaming a schema says nothing about the tables
// in it.
//
// Where namespaces have builders, which are functions of the user's, every function, operator, cast, enum and
// view may be a part of one: what a function calls is not known. Such DDL empties more than it must.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

// The catalog caches whose messages tell of code. Types are not among them: every CREATE TEMP TABLE makes one.
inline constexpr int kCodeCaches[] = {PROCOID, OPEROID, CASTSOURCETARGET, ENUMOID};

class SourceSet {
  public:
    explicit SourceSet(List* relations = NIL, List* schemas = NIL, bool has_builders = false)
        : relations_(relations), schemas_(schemas), has_builders_(has_builders) {}
    // Where the wiring itself is being changed by somebody else: anything may be a source.
    static SourceSet unknown() {
        SourceSet set;
        set.unknown_ = true;
        return set;
    }
    bool empty() const { return relations_ == NIL && !unknown_; }
    bool contains(Oid relation) const {
        return unknown_ || list_member_oid(relations_, relation) ||
               (has_builders_ && get_rel_relkind(relation) == RELKIND_VIEW);
    }
    bool has_builders() const { return unknown_ || has_builders_; }

    // By the schema's hash value in the server's catalog cache.
    bool contains_schema(std::uint32_t hash) const;

  private:
    List* relations_;  // in the memory context it was made in, as the schemas
    List* schemas_;
    bool has_builders_;
    bool unknown_ = false;
};

// As of now, own changes included: not under any statement's snapshot, since it is asked what this
// transaction's DDL may concern, and an attach() of somebody else must not be missed. Empty where nothing is
// attached.
SourceSet current_sources();

}  // namespace prompt_cache
