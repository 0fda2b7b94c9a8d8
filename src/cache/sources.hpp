// The relations whose definition the cache depends on: the attached tables with all their partitions, and the
// extension's own tables that hold the wiring and the application prompt.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

class SourceSet {
  public:
    explicit SourceSet(List* relations = NIL) : relations_(relations) {}
    bool empty() const { return relations_ == NIL; }
    bool contains(Oid relation) const { return list_member_oid(relations_, relation); }

  private:
    List* relations_;  // in the memory context it was made in
};

// As of now, own changes included: not under any statement's snapshot, since it is asked what this
// transaction's DDL may concern, and an attach() of somebody else must not be missed. Empty where nothing is
// attached.
SourceSet current_sources();

}  // namespace prompt_cache
