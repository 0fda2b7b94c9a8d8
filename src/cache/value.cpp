#include "cache/value.hpp"

#include "cache/flight.hpp"
#include "cache/saving.hpp"
#include "cache/value_build.hpp"
#include "cache/value_store.hpp"
#include "cache/writer.hpp"
#include "pg/settings.hpp"

namespace prompt_cache {

using core::applies;
using core::Counter;
using core::Rule;

namespace {

// A sliding entry's end is put off when it has come nearer by this part of its time to live: some writes a
// lifetime, not one a hit.
constexpr std::int64_t kSlidingPart = 8;

void count_in(const ValueContext& context, Counter counter, std::uint64_t n = 1) noexcept {
    if (context.space->partition.holds()) count(counter, n, context.space->partition.number);
}

// The further dependencies of an entry; false if it changed under the copy, or holds something else.
struct FurtherLocal {
    alignas(FurtherDependency) std::byte bytes[kMaxFurtherTags * sizeof(FurtherDependency)];  // not cleared: it is large
    std::size_t count = 0;

    std::span<const FurtherDependency> all() const {
        return {reinterpret_cast<const FurtherDependency*>(bytes), count};
    }
};

bool read_further(const FoundEntry& found, FurtherLocal& further) {
    const std::size_t bytes = found.header.pointer_length;
    if (bytes > sizeof(further.bytes) || bytes % sizeof(FurtherDependency) != 0) return false;
    further.count = bytes / sizeof(FurtherDependency);
    return memory::read_pointer(found, reinterpret_cast<char*>(further.bytes)) && memory::still_there(found);
}

bool further_agree(const Judge& judge, const FoundEntry& found, const FurtherLocal& further) {
    for (const FurtherDependency& one : further.all())
        if (!agrees(judge, one.dependency, found.has(kByStamp), [&] { return one.tag; })) return false;
    return true;
}

bool all_agree(const ValueContext& context, std::string_view key, const FoundEntry& found,
               const FurtherLocal& further) {
    const auto own = [&] { return entry_tag(context.space->name(), key); };
    const auto star = [] { return Tag(TagKind::kAll); };
    // What the namespace is hangs on `*` too, and has been judged.
    if (found.dependencies[1] != context.space->dependency && !agrees(context.judge, found, 1, star)) return false;
    return agrees(context.judge, found, 0, own) && further_agree(context.judge, found, further);
}

Verdict judge_found(const ValueContext& context, std::string_view key, FoundEntry& found, FurtherLocal& further) {
    const Namespace& space = *context.space;
    if (is_dirty_key(space, key)) return Verdict::kDirty;
    if (!memory::find(EntryKey(EntryKind::kValue, key, space.wiring()), found)) return Verdict::kNotThere;
    if (found.header.expires <= context.now) return Verdict::kExpired;
    if (!read_further(found, further)) return Verdict::kNotThere;
    if (anything_is_dirty())
        for (const FurtherDependency& one : further.all())
            if (is_dirty(one.tag)) return Verdict::kDirty;
    return all_agree(context, key, found, further) ? Verdict::kHit : Verdict::kChanged;
}

// What a build around this one depends on from now on.
void inherit(std::string_view name, std::string_view key, const TagListLocal* tags, const FurtherLocal* further,
             std::int64_t deadline, bool has_gap, bool durable) {
    BuildLocal* outer = building::current();
    if (!outer) return;
    outer->tags.add(entry_tag(name, key));
    outer->tags.add(namespace_tag(name));
    outer->tags.add(prefix_tag(name));
    outer->tags.add(Tag(TagKind::kNamespace));  // who may read what
    if (tags) outer->tags.add(*tags);
    if (further)
        for (const FurtherDependency& one : further->all()) outer->tags.add(one.tag);
    outer->deadline = std::min(outer->deadline, deadline);
    outer->has_gap |= has_gap;
    outer->durable = outer->durable && durable;
}

void slide(const ValueContext& context, const FoundEntry& found) {
    const std::int64_t ttl = context.space->ttl();
    if (!context.space->sliding() || ttl == INT64_MAX || found.has(kHasGap) || found.has(kHasDeadline)) return;
    const std::int64_t end = std::min(context.now + ttl, memory::latest_end(found.header));
    if (end - found.header.expires > ttl / kSlidingPart) memory::extend(found, end);
}

std::optional<Value> from_memory(const ValueContext& context, std::string_view key) {
    FoundEntry found;
    FurtherLocal further;
    if (judge_found(context, key, found, further) != Verdict::kHit) return std::nullopt;
    Value hit{.found = true, .value = nullptr, .source = Source::kMemory};
    if (found.has(kFound)) {
        hit.value = static_cast<text*>(palloc_extended(VARHDRSZ + found.header.value_length, MCXT_ALLOC_NO_OOM));
        if (!hit.value) return std::nullopt;
        SET_VARSIZE(hit.value, VARHDRSZ + found.header.value_length);
        if (!memory::read_value(found, VARDATA(hit.value))) return std::nullopt;
    }
    if (!memory::still_there(found)) return std::nullopt;
    if (!context.is_walk) {
        memory::count_use(found);
        slide(context, found);
    }
    inherit(context.space->name(), key, nullptr, &further, found.header.expires, found.has(kHasGap),
            context.space->durable() && !found.has(kUnlogged));
    return hit;
}

Value build_and_count(ValueContext& context, std::string_view key, BuildLocal& build) {
    build.tags = TagListLocal();
    instr_time began, took;
    INSTR_TIME_SET_CURRENT(began);
    text* value = build_value(context, key, build);
    if (context.bypass == Bypass::kNone && !context.uncached) {
        INSTR_TIME_SET_CURRENT(took);
        INSTR_TIME_SUBTRACT(took, began);
        count_in(context, Counter::kBuilds);
        count_in(context, Counter::kBuildMicros, INSTR_TIME_GET_MICROSEC(took));
    }
    return {.found = true, .value = value, .source = Source::kBuilt};
}

// A build around this one hangs on all that this one does.
void inherit_build(const BuildLocal& build) {
    const std::int64_t ttl = build.space.ttl();
    inherit(build.space.name(), build.key, &build.tags, nullptr,
            std::min(build.deadline, ttl == INT64_MAX ? ttl : memory::now() + ttl), build.has_gap,
            build.durable && build.space.durable());
    if (BuildLocal* outer = building::current())
        outer->exact = outer->exact && build.exact && build.unfinished == 0 && build.space.sound() && !build.tags.full();
}

BuildLocal& new_build(ValueContext& context, std::string_view key) {
    BuildLocal& build = *new (palloc(sizeof(BuildLocal))) BuildLocal();
    build.space = copy_namespace(*context.space);
    build.key = key;
    context.space = &build.space;
    return build;
}

std::optional<Value> from_redis(ValueContext& context, BuildLocal& build) {
    const std::optional<text*> value = value_from_redis(context, build);
    if (!value) return std::nullopt;
    if (context.use_memory) store_in_memory(context, build, *value);
    inherit_build(build);
    return Value{.found = true, .value = *value, .source = Source::kRedis};
}

// From Redis, else by the builder; stored where it may be.
Value make_and_store(ValueContext& context, std::string_view key, bool dirty) {
    BuildLocal& build = new_build(context, key);
    if (!dirty)
        if (const std::optional<Value> value = from_redis(context, build)) return *value;
    const Value made = build_and_count(context, key, build);
    if (context.use_memory && !dirty) store_in_memory(context, build, made.value);
    if (!dirty) store_in_redis(context, build, made.value);
    inherit_build(build);
    return made;
}

Value fetch_missing(ValueContext& context, std::string_view key) {
    const Tag tag = entry_tag(context.space->name(), key);
    const Boarding boarding = board(context.judge, EntryKey(EntryKind::kValue, key, context.space->wiring()), tag);
    if (boarding == Boarding::kAlone) return make_and_store(context, key, false);
    const auto look_or_build = [&] {
        const std::optional<Value> hit = from_memory(context, key);
        return hit ? *hit : make_and_store(context, key, false);
    };
    if (boarding == Boarding::kLanded) return look_or_build();
    Value value;
    PG_TRY();
    { value = look_or_build(); }  // another may have landed before we took off
    PG_FINALLY();
    { land(); }
    PG_END_TRY();
    return value;
}

void count_lookup(const ValueContext& context, const Value& value, bool bypassed) noexcept {
    if (context.uncached || context.is_walk) return;
    Counter counter = Counter::kHitsMemory;
    if (bypassed || context.bypass != Bypass::kNone)
        counter = Counter::kBypasses;
    else if (!value.found)
        counter = Counter::kNotFound;
    else if (value.source == Source::kBuilt)
        counter = Counter::kBuiltCalls;
    else if (value.source == Source::kRedis)
        counter = Counter::kHitsRedis;
    count_in(context, counter);
}

}  // namespace

ValueContext open_value_context(std::string_view name) {
    refuse_nested_lookup();
    ValueContext context;
    context.judge = open_judge();
    context.bypass = context.judge.bypass;
    take_hit_behind();  // of a lookup that an error ended
    context.pushed = lend_snapshot(context.judge);
    context.around = building::begin_lookup();
    context.uncached = context.around && context.around->uncached;

    // As for prompts, see open_lookup().
    Judge wiring = context.judge;
    if (context.bypass == Bypass::kSerializable && !has_own_ddl()) wiring.by = Judge::By::kMarks;
    context.space = &namespace_under(wiring, name);
    if (context.bypass == Bypass::kNone && own_ddl_concerns(*context.space)) {
        context.bypass = Bypass::kOwnDdl;
        context.judge.by = Judge::By::kNothing;
        context.space = &namespace_under(context.judge, name);
    }
    building::note_lookup(context.around, context.judge.snapshot, context.bypass);
    context.space->require_usable();
    context.space->require_reader();
    // What applications put is nowhere else, so that get() inside of rebuild() looks for it here.
    const bool may_use = !context.uncached || !context.space->has_builder();
    context.use_memory = context.bypass == Bypass::kNone && settings::memory && may_use &&
                         context.space->dependency.has_value() && context.space->partition.holds();
    if (context.use_memory) {
        context.now = memory::now();
        saving::note_database();
    }
    return context;
}

void close_value_context(ValueContext& context) {
    building::end_lookup(context.around);
    if (context.pushed) PopActiveSnapshot();
}

bool further_agree(const Judge& judge, const FoundEntry& found) {
    FurtherLocal further;
    return read_further(found, further) && further_agree(judge, found, further);
}

bool is_dirty_key(const Namespace& space, std::string_view key) {
    if (!anything_is_dirty()) return false;
    return is_dirty(namespace_tag(space.name())) || is_dirty(entry_tag(space.name(), key)) ||
           is_dirty_prefix(space.name(), key);
}

bool is_any_dirty(std::span<const Tag> tags) {
    return anything_is_dirty() && std::any_of(tags.begin(), tags.end(), is_dirty);
}

Verdict judge_value(const ValueContext& context, std::string_view key, FoundEntry& found) {
    FurtherLocal further;
    return judge_found(context, key, found, further);
}

Value fetch_value(ValueContext& context, std::string_view key) {
    context.space->require_builder();
    const bool dirty = is_dirty_key(*context.space, key);
    std::optional<Value> value;
    if (context.use_memory && !dirty) value = from_memory(context, key);
    if (!value)
        value = context.use_memory && !dirty ? fetch_missing(context, key) : make_and_store(context, key, dirty);
    count_lookup(context, *value, dirty);
    return *value;
}

Value get_value(ValueContext& context, std::string_view key) {
    const bool dirty = is_dirty_key(*context.space, key);
    std::optional<Value> value;
    if (context.use_memory && !dirty) value = from_memory(context, key);
    if (!value && !dirty && context.space->has_builder()) value = from_redis(context, new_build(context, key));
    // Whether it is there is no function of what the snapshot sees: it may be evicted.
    if (context.around) context.around->exact = false;
    if (!value) value = Value{};
    count_lookup(context, *value, dirty);
    return *value;
}

text* rebuild_value(ValueContext& context, std::string_view key) {
    context.space->require_builder();
    context.uncached = true;
    context.use_memory = false;
    return make_and_store(context, key, true).value;
}

BuiltValue build_to_compare(ValueContext& context, std::string_view key) {
    BuildLocal& build = new_build(context, key);
    return {&build, build_and_count(context, key, build).value};
}

void inherit_layers(const LookupContext& context, const LayersLocal& layers, std::string_view user_key) {
    if (!context.around) return;
    BuildLocal& build = *context.around;
    build.exact = build.exact && context.attachment->sound() && layers.storable();
    build.durable = build.durable && context.attachment->durable();
    build.tags.add(Tag(TagKind::kUser, user_key));
    build.tags.add(Tag(TagKind::kApplication));
    const LayerLocal& user = layers.layer[core::kUserLayer];
    if (user.pointer) build.tags.add(Tag(TagKind::kTenant, *user.pointer));
}

}  // namespace prompt_cache
