// Tier 3: the table user_prompt_cache, one row a prompt that was given to a user, the newest first.
//
// A row carries the stamps of the four tags it was composed under: `*`, the application's, the tenant's and
// the user's, as they stood under the snapshot of the composition. Each layer of it is usable where `*` and
// its own stamp are what the reader's snapshot sees; which transaction wrote the row, and when, does not
// matter.
#pragma once

#include "core/composition.hpp"
#include "pg/postgres.hpp"
#include "tier/nonce.hpp"

namespace prompt_cache {

enum StampIndex : unsigned { kStarStamp, kApplicationStamp, kTenantStamp, kUserStamp, kStamps };

struct DurableRow {
    std::int64_t id = 0;
    std::string_view prompt;
    std::optional<std::string_view> tenant_key;
    std::array<std::size_t, core::kLayers> lengths{};
    std::array<Stamp, kStamps> stamps{};
};

// The newest row of a user under the active snapshot, copied into the current memory context.
std::optional<DurableRow> read_newest_row(std::string_view user_key);

// Makes `row` the newest of the user; true if the table changed. Where the newest has the same text, only its
// stamps are brought up to date. Needs a transaction that may write.
bool write_row(std::string_view user_key, const DurableRow& row);

// One at a time writes here: flush() in somebody's transaction and the worker would else wait for each
// other's rows. Held until the transaction ends.
void lock_saving();

// Keys of users' newest rows, newest first, from below row `before`; in the current memory context.
struct SavedKey {
    std::int64_t id;
    std::string_view user_key;
};
std::span<const SavedKey> newest_keys(std::int64_t before, std::uint32_t most);

// At most `most` keys that have rows, picked at random, in the current memory context. And the deletion of all
// rows of one.
std::span<const std::string_view> random_keys(std::uint32_t most);
std::int64_t delete_rows(std::string_view user_key);

}  // namespace prompt_cache
