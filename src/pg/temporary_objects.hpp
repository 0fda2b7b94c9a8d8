// Objects in temporary schemas, as the server's messages about DDL name them.
//
// Anybody may make functions, types and the like in pg_temp, and the first temporary object of a session makes the schema
// itself. A value for everybody cannot depend on them, so such DDL concerns nobody. But a message carries a hash of the
// object's OID and not its schema; so the numbers of temporary objects are kept, from the access hook, while the
// transaction that makes, changes or drops them is under way. Objects cannot be moved into or out of a temporary schema.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache::temporary_objects {

// From the server's object access hook: the object was made or changed, or is about to be dropped.
void note(Oid catalog, Oid object);

// The text search configuration is about to be changed: rows of its mapping may go.
void note_configuration(const List* name);

// GRANT and REVOKE call no hook: the functions of this session's temporary schema may be about to change.
void note_own_functions();

// What was made has all its parts now. Before contains() is asked, at the end of the transaction.
void complete();

// Is the catalog_object() (pg/expression_objects.hpp) one of a temporary object of this transaction?
bool contains(std::uint32_t number) noexcept;

// The transaction has ended.
void forget() noexcept;

}  // namespace prompt_cache::temporary_objects
