// A lookup of a prompt: three layers judged under one snapshot and joined.
#pragma once

#include "cache/attachment.hpp"
#include "cache/builder.hpp"
#include "cache/judge.hpp"
#include "cache/transaction.hpp"
#include "pg/postgres.hpp"
#include "tier/durable.hpp"
#include "tier/redis.hpp"

namespace prompt_cache {

struct BuildLocal;  // cache/building.hpp

enum class Source {
    kMemory,
    kRedis,
    kDatabase,
    kBuilt
};  // in order of worth: the worst of the layers counts
const char* name_of(Source source) noexcept;

struct PromptAnswer {
    text* prompt = nullptr;  // null: there is no such user
    Source source = Source::kMemory;
};

// What one lookup works with; lives as long as the call.
struct LookupContext {
    Judge judge = open_judge();  // of the caller's snapshot
    Bypass bypass = judge.bypass;
    const Attachment* attachment = nullptr;
    bool use_memory = false;  // hit and store
    std::int64_t now = 0;     // on the clock of entries, where memory is used
    bool pushed = false;      // the snapshot is ours to pop
    BuildLocal* around = nullptr;  // the build of a namespace's value that this lookup is a part of
    redis::Patience redis;    // what is left of it
    bool is_walk = false;     // over many users, none of whom asks: what it reads does not count as used

    LookupContext() {}  // member by member: as an aggregate it would be zeroed first
};

// Opens a lookup under the caller's snapshot, finds the wiring that holds under it and decides which tiers
// may be used. ERROR 55000 where nothing is attached. Ends with close_lookup(); after an error the server
// pops the snapshot.
LookupContext open_lookup();
void close_lookup(LookupContext& context);

// May the lookup trust stamps, which prove values of tiers 2 and 3? Not where DDL that every snapshot sees
// has just happened.
bool may_use_stamps(const LookupContext& context) noexcept;
bool may_use_database(const LookupContext& context) noexcept;

// The exact prompt of a user, from the nearest tier that can prove it.
PromptAnswer get_or_build(const KeyInput& input);

// Always builds; no tier is touched.
text* build_prompt(const KeyInput& input);

// The three layers of a user with the worst source among them.
struct LayersLocal {
    LayerLocal layer[core::kLayers];
    Source source = Source::kMemory;
    bool bypassed = false;
    core::Composition composition() const noexcept;
    // Is every layer a function of what the snapshot sees, so that others may be given it?
    bool storable() const noexcept {
        return std::all_of(std::begin(layer), std::end(layer), [](const LayerLocal& one) { return one.storable; });
    }
};

LayersLocal collect_layers(LookupContext& context, std::string_view user_key);
// These, or built ones inside of rebuild(); a build around the lookup learns what it hangs on.
LayersLocal exact_layers(LookupContext& context, std::string_view user_key);
LayersLocal build_layers(const LookupContext& context, std::string_view user_key);  // no tier is touched
text* compose(const LayersLocal& layers);

}  // namespace prompt_cache
