// Storing a value of a namespace, in memory and in Redis, with everything that it depends on.
#pragma once

#include "cache/value.hpp"

namespace prompt_cache {

// Stores a value in memory with the dependencies that `depend` can vouch for; false if one cannot be, or there
// is no room. Raises an error only if `depend` does.
using DependFn = std::optional<Dependency> (*)(const void* context, Tag tag);
struct ValueToStore {
    std::uint32_t wiring;
    PartitionRef partition;
    std::string_view name;
    std::string_view key;
    std::uint8_t flags;
    std::string_view value;
    std::span<const Tag> tags;
    std::int64_t lifetime;
    std::int64_t deadline;
};
bool store_value(const ValueToStore& value, DependFn depend, const void* context, const Dependency* unless_marked,
                 bool with_prefix_tag);

// Is what was built a function of what its snapshot sees, with everything it hangs on known?
bool is_whole(const BuildLocal& build) noexcept;

// What was made under the context's snapshot, in memory; if it may be stored at all.
void store_in_memory(const ValueContext& context, const BuildLocal& build, const text* value);

// The same in Redis. What nothing watches is not stored there: two times to live would add up.
void store_in_redis(ValueContext& context, const BuildLocal& build, const text* value);

// The value out of Redis if it is exact under the context's snapshot; `build` learns what it hangs on.
std::optional<text*> value_from_redis(ValueContext& context, BuildLocal& build);

}  // namespace prompt_cache
