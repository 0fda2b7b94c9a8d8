// What the current transaction is doing, as far as it decides whether its lookups may use the cache.
//
// Row triggers speak only at the end of a statement, and DDL only at the end of the transaction; in between,
// a lookup of the same transaction can see changes that nobody has noted yet. Hooks follow the statements
// that write, VACUUM and the invalidation messages of own DDL. All state is the backend's own and ends with
// the transaction.
#pragma once

#include "core/slot.hpp"
#include "pg/postgres.hpp"

namespace prompt_cache {

enum class Bypass {
    kNone,
    kNotPreloaded,       // no shared memory
    kNoSnapshot,         // no active MVCC snapshot, or logical decoding
    kSerializable,       // a hit takes no SIREAD lock
    kParallelWriter,     // a parallel worker cannot know what its leader has changed
    kOlderThanServer,    // the snapshot may see writers whose marks were lost
    kStatementInFlight,  // an own statement is still writing
    kPremarked,          // own marks are set already
    kOwnChanges,         // so much that everything counts as changed, or attach(), or clear()
    kOwnDdl,             // own uncommitted DDL on a source
};

const char* describe(Bypass reason) noexcept;

void install_transaction_hooks();

// The judge for the caller's snapshot: by marks on a primary, by stamps in recovery, by nothing where there
// is a reason to go round the cache. Own DDL is not looked at here, since that needs to know the sources.
struct Judge;
Judge open_judge();

// Lends a caller without a snapshot, who bypasses, the transaction's to build under. True: pop it in the end.
bool lend_snapshot(Judge& judge);

// Relations and catalog objects (expression_objects.hpp) whose definition this transaction has changed (or,
// harmlessly, somebody else meanwhile).
bool has_own_ddl() noexcept;
bool own_ddl_concerns(std::span<const Oid> sources, std::span<const std::uint32_t> objects) noexcept;

// May wiring that this transaction has read be other than what everybody else would read?
bool own_ddl_may_show(std::span<const Oid> sources, std::span<const std::uint32_t> objects) noexcept;

// The same for a builder that a user wrote: any function, operator, view or schema may be a part of it, beside
// the relations of which `is_source` says so.
bool own_ddl_concerns(bool (*is_source)(const void* context, Oid relation), const void* context);

// Is this transaction VACUUM's or ANALYZE's own?
bool is_vacuuming() noexcept;

// What this transaction has done to tables it has done as VACUUM FULL does, which changes no row. Said after
// it, by a worker that has done nothing else.
void changes_no_row() noexcept;

void forget_transaction() noexcept;

}  // namespace prompt_cache
