// Whose prompts were in use, hottest first: the table usage_order, by which a restart begins.
//
// A few rows of many users each, written now and then where they differ. A column of user_prompt_cache was
// rejected: it would turn reading into an update of each row.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

inline constexpr std::size_t kUsersAtRank = 200;

// Makes the table say this. Rows that say it already are not written.
void write_usage_order(std::span<const std::string_view> user_keys);

// The users of one row, in order, in the current memory context; none behind the last row.
std::span<const std::string_view> read_usage_order(std::int32_t rank);

}  // namespace prompt_cache
