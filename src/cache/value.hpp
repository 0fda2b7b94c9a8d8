// Values of namespaces: found, judged, built and stored like a layer of a prompt, with as many dependencies as
// the builder named.
//
// An entry depends on its own tag and `*`, as a layer does, and on further tags that stand beside its key: its
// namespace's, those of everything its builder fetched, those it named. Each is judged like the first two.
//
// forget_prefix() is not one of an entry's tags, or it would empty the whole namespace: it frees what is in
// memory, and a value is stored only by a builder that has seen every forget_prefix() before. Where stamps
// decide (on a standby) it is a tag like the others.
#pragma once

#include "cache/building.hpp"
#include "cache/layer.hpp"
#include "cache/namespace.hpp"

namespace prompt_cache {

// A dependency beyond the first two, as it lies in an entry.
struct FurtherDependency {
    Tag tag;
    Dependency dependency;
};
static_assert(sizeof(FurtherDependency) * kMaxFurtherTags <= kMaxFurtherLength);

// What one lookup in a namespace works with; lives as long as the call.
struct ValueContext {
    Judge judge;  // of the caller's snapshot
    Bypass bypass = Bypass::kNone;
    const Namespace* space = nullptr;  // until something else is looked up in a namespace
    bool use_memory = false;
    bool uncached = false;  // inside rebuild(): no tier is touched
    bool is_walk = false;   // nobody asks: what it reads does not count as used
    std::int64_t now = 0;
    bool pushed = false;
    BuildLocal* around = nullptr;  // the build that this lookup is a part of
    redis::Patience redis;         // what is left of it
};

// ERROR 42704 if there is no such namespace, 42501 if the current role may not read it, 55000 if it cannot be
// used.
ValueContext open_value_context(std::string_view name);
void close_value_context(ValueContext& context);

struct Value {
    bool found = false;
    text* value = nullptr;  // in the current memory context; null: NULL
    Source source = Source::kMemory;
};

// The value from the nearest tier that can prove it, else built and stored.
Value fetch_value(ValueContext& context, std::string_view key);

// The same, but nothing is built.
Value get_value(ValueContext& context, std::string_view key);

// Always built, and all that it fetches too.
text* rebuild_value(ValueContext& context, std::string_view key);

// What the builder gives under the context's snapshot, and what it hangs on. Stored nowhere.
struct BuiltValue {
    BuildLocal* build;
    text* value;
};
BuiltValue build_to_compare(ValueContext& context, std::string_view key);

// A value out of memory, if it is exact under the context's snapshot.
Verdict judge_value(const ValueContext& context, std::string_view key, FoundEntry& found);

// Has this transaction changed the value, or what all values of the namespace hang on; or one of these tags?
bool is_dirty_key(const Namespace& space, std::string_view key);
bool is_any_dirty(std::span<const Tag> tags);

// Do an entry's dependencies beyond the first two hold?
bool further_agree(const Judge& judge, const FoundEntry& found);

// The tags of every value of a namespace, and of one.
inline Tag namespace_tag(std::string_view name) {
    return Tag(TagKind::kNamespace, name);
}
inline Tag prefix_tag(std::string_view name) {
    return Tag(TagKind::kPrefix, name);
}
inline Tag entry_tag(std::string_view name, std::string_view key) {
    return Tag(TagKind::kEntry, name, key);
}

// A build around a prompt's lookup depends on its layers.
void inherit_layers(const LookupContext& context, const LayersLocal& layers, std::string_view user_key);

}  // namespace prompt_cache
