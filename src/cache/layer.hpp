// One layer from the nearest tier: memory, else Redis, else the user's row in the table, else a build that is
// then stored.
#pragma once

#include "cache/lookup.hpp"
#include "cache/memory.hpp"

namespace prompt_cache {

// What belongs to each layer.
struct LayerTraits {
    EntryKind kind;
    TagKind tag;
    StampIndex stamp;
    const char* name;
};
inline constexpr LayerTraits kLayerTraits[core::kLayers] = {
    {EntryKind::kApplication, TagKind::kApplication, kApplicationStamp, "application"},
    {EntryKind::kTenant, TagKind::kTenant, kTenantStamp, "tenant"},
    {EntryKind::kUser, TagKind::kUser, kUserStamp, "user"},
};

// An entry in memory that is exact under the lookup's snapshot. What is found must still be copied and
// confirmed.
bool find_valid(const LookupContext& context, core::LayerIndex layer, const EntryKey& key, FoundEntry& found);
inline bool find_valid(const LookupContext& context, core::LayerIndex layer, std::string_view key,
                       FoundEntry& found) {
    return find_valid(context, layer, EntryKey(kLayerTraits[layer].kind, key), found);
}

// The same for a layer that many prompts share: the entry found last is not looked for again while its bucket
// has not moved. Null if there is no valid one; holds until the next call for the layer.
const FoundEntry* find_valid_shared(const LookupContext& context, core::LayerIndex layer,
                                    std::string_view key);

// Why an entry that is there is not used, for explain().
enum class Verdict { kHit, kNotThere, kExpired, kDirty, kChanged };
Verdict judge_entry(const LookupContext& context, core::LayerIndex layer, const EntryKey& key,
                    FoundEntry& found);

// The tag on which a layer hangs besides `*`.
Tag layer_tag(core::LayerIndex layer, std::string_view key) noexcept;

// The layer that entries of this kind hold.
core::LayerIndex layer_of(EntryKind kind) noexcept;

// A copy in the current memory context; nothing if the entry is not valid or changed under the copy.
std::optional<LayerLocal> layer_from_memory(const LookupContext& context, core::LayerIndex layer,
                                            std::string_view key);

// The user's newest row, read at most once a lookup and only when a layer is missing in memory.
struct RowLocal {
    bool read = false;
    std::optional<DurableRow> row;
    bool current = false;  // its stamp of `*` is the one the snapshot sees
};

// What a row of tier 3 has to carry for `*` to be current under the lookup's snapshot.
Stamp durable_star(const LookupContext& context);

// The layers of a user, if all are in memory and valid; copies in the current memory context.
std::optional<LayersLocal> layers_in_memory(const LookupContext& context, std::string_view user_key);

// Brings the layers of a user into memory that his newest row can prove; builds none.
void warm_layers(LookupContext& context, std::string_view user_key);

// The layer from Redis, if its stamps are what the snapshot sees.
std::optional<LayerLocal> layer_from_redis(LookupContext& context, core::LayerIndex layer,
                                           std::string_view key);

// The layer out of the user's newest row, if its stamps are what the snapshot sees.
std::optional<LayerLocal> layer_from_row(const LookupContext& context, RowLocal& local,
                                         core::LayerIndex layer, std::string_view key,
                                         std::string_view user_key);

}  // namespace prompt_cache
