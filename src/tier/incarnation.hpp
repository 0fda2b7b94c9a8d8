// Which life of the extension this is: a random number made by CREATE EXTENSION, in no dump. With the
// server's identifier and the database it says whose a value outside is.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

// Nothing where the extension is not installed, as the current transaction sees it.
std::optional<std::int64_t> incarnation();

// "system identifier.database.incarnation": part of every name and channel outside.
using ScopeText = std::array<char, 64>;
std::string_view print_scope(Oid database, std::int64_t incarnation, ScopeText& buffer) noexcept;

}  // namespace prompt_cache
