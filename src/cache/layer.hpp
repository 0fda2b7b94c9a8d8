// One layer from the nearest tier: memory, else the user's row in the table, else a build that is then
// stored.
#pragma once

#include "cache/lookup.hpp"
#include "cache/memory.hpp"

namespace prompt_cache {

// An entry in memory that is exact under the lookup's snapshot. What is found must still be copied and
// confirmed.
bool find_valid(const LookupContext& context, EntryKind kind, std::string_view key, FoundEntry& found);

// Why an entry that is there is not used, for explain().
enum class Verdict { kHit, kNotThere, kExpired, kDirty, kChanged };
Verdict judge_entry(const LookupContext& context, EntryKind kind, std::string_view key, FoundEntry& found);

}  // namespace prompt_cache
