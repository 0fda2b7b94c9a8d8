// Looking up the extension's own relations.
//
// By name first, since DROP and re-CREATE of the extension changes oids; but a name proves nothing: in a
// database without the extension anybody who may create a schema could put a relation of ours there, of any
// shape. So what was found must be a member of the extension. That is looked up once for an oid.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

inline constexpr const char* kSchema = "prompt_cache";
inline constexpr const char* kExtension = "prompt_cache";

enum class OwnRelation : unsigned {
    kAttachment,
    kApplication,
    kUserPromptCache,
    kTagNonce,
    kTagNonceKey,
    kNamespace,
    kWatch,
    kReader,
    kIncarnation,
    kUsageOrder,
};

// InvalidOid where the extension is not installed in this database, as the current transaction sees it.
Oid own_relation(OwnRelation relation);

// Which of them a relation is; nothing if none.
std::optional<OwnRelation> own_relation_of(Relation relation);

// Our trigger function; InvalidOid where the extension is not installed. Needs no right on the schema.
Oid own_trigger_function();

// Holds the extension until the transaction ends; false if it is not there. DROP EXTENSION locks the same first, so
// that it and one who writes our tables wait for each other holding nothing else.
bool lock_extension();

// Locks our tables for writing without waiting. False if somebody holds one of them exclusively; locks that were taken
// before that are released at the end of the transaction. A worker that has them never waits for another one of ours, so
// that nobody who drops the extension can be the victim of a deadlock with it.
bool try_lock_own_tables();

// The owner of one of our tables. ERROR with a hint where the extension is not installed.
Oid owner_of(OwnRelation relation);

}  // namespace prompt_cache
