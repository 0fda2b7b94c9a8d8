// The writer's side: what the current transaction has changed, and what it leaves behind for others.
//
// Triggers and invalidate_…() note tags here, in memory of the backend alone. Before the transaction ends
// (PRE_COMMIT or PRE_PREPARE, so while it still counts as running for everybody) it writes its nonces and
// marks its tags. Nothing is left to do at commit or abort: a mark of a transaction that aborted only costs
// misses.
//
// Tags are kept through ROLLBACK TO. That invalidates too much, and saves keeping books about
// subtransactions.
#pragma once

#include "core/own_order.hpp"
#include "pg/postgres.hpp"
#include "tier/tag.hpp"

namespace prompt_cache {

void install_writer();

// The current transaction has changed `tag`. May raise an error only after the own PRE_COMMIT, where the
// nonce has to be written at once.
void note_change(Tag tag);

// The current transaction declares every value of a namespace changed whose key begins with `prefix`.
void note_prefix(std::string_view name, std::string_view prefix);

// The extension is being dropped in this transaction: its entries die at commit, and no nonce table is left.
void note_extension_dropped() noexcept;

// A view is being dropped: afterwards the catalogs could not tell it from a temporary table.
void note_view_dropped() noexcept;

// Entries of this database are of no use any more once the transaction has committed.
void note_database_dropped(Oid database) noexcept;

// Has the current transaction changed anything, `tag`, or everything?
bool anything_is_dirty() noexcept;
bool is_dirty(Tag tag) noexcept;
bool everything_is_dirty() noexcept;
bool is_dirty_prefix(std::string_view name, std::string_view key) noexcept;

// Has it changed the tag in this command or a later one? (core/own_order.hpp)
bool has_unseen_change(Tag tag, core::Command seen) noexcept;

// Did our PRE_COMMIT run already? Other callbacks may still write.
bool is_premarked() noexcept;

}  // namespace prompt_cache
