// Writing what memory holds to tier 3.
#pragma once

#include <cstdint>

namespace prompt_cache {

// Writes a row for every user in memory whose composed prompt the table does not hold yet; returns the rows
// written. Writes nothing in a transaction that must bypass the cache: what memory held is void then, or
// about to be.
std::int64_t save_all();

// Deletes the rows of users that are gone; returns how many. Whether a user exists is asked of the builder,
// as the owner of the users table: nothing of that table is ever run with the rights of the extension's
// owner.
std::int64_t purge_gone();

}  // namespace prompt_cache
