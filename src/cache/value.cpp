#include "cache/value.hpp"

#include "cache/flight.hpp"
#include "cache/saving.hpp"
#include "cache/writer.hpp"
#include "pg/as_owner.hpp"
#include "pg/pause.hpp"
#include "pg/catalog.hpp"
#include "pg/query.hpp"
#include "pg/settings.hpp"

extern "C" {
#include "utils/hsearch.h"
}

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

// This transaction has changed the value, or what all values of the namespace hang on.
bool is_dirty_key(const Namespace& space, std::string_view key) {
    if (!anything_is_dirty()) return false;
    return is_dirty(namespace_tag(space.name())) || is_dirty(entry_tag(space.name(), key)) ||
           is_dirty_prefix(space.name(), key);
}

bool is_any_dirty(std::span<const Tag> tags) {
    return anything_is_dirty() && std::any_of(tags.begin(), tags.end(), is_dirty);
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
             std::int64_t deadline, bool has_gap) {
    BuildLocal* outer = building::current();
    if (!outer) return;
    outer->tags.add(entry_tag(name, key));
    outer->tags.add(namespace_tag(name));
    outer->tags.add(prefix_tag(name));
    if (tags) outer->tags.add(*tags);
    if (further)
        for (const FurtherDependency& one : further->all()) outer->tags.add(one.tag);
    outer->deadline = std::min(outer->deadline, deadline);
    outer->has_gap |= has_gap;
}

void slide(const ValueContext& context, const FoundEntry& found) {
    const std::int64_t ttl = context.space->ttl();
    if (!context.space->sliding() || ttl == INT64_MAX || found.has(kHasGap)) return;
    if (context.now + ttl - found.header.expires > ttl / kSlidingPart) memory::extend(found, context.now + ttl);
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
    memory::count_use(found);
    slide(context, found);
    inherit(context.space->name(), key, nullptr, &further, found.header.expires, found.has(kHasGap));
    return hit;
}

// ---- building

// SELECT builder($1), prepared once a backend for each builder: the plan cache follows whatever is redefined.
SPIPlanPtr plan_of(const char* call) {
    struct Cell {
        char call[512];
        SPIPlanPtr plan;
    };
    static HTAB* plans = nullptr;
    if (!plans) {
        HASHCTL control{};
        control.keysize = sizeof(Cell::call);
        control.entrysize = sizeof(Cell);
        plans = hash_create("prompt_cache builders", 16, &control, HASH_ELEM | HASH_STRINGS);
    }
    bool found = false;
    auto* cell = static_cast<Cell*>(hash_search(plans, call, HASH_FIND, &found));
    if (found) return cell->plan;
    Oid argument = TEXTOID;
    SPIPlanPtr plan = SPI_prepare(call, 1, &argument);
    if (!plan || SPI_keepplan(plan) != 0)
        elog(ERROR, "prompt_cache: cannot prepare the builder: %s", SPI_result_code_string(SPI_result));
    cell = static_cast<Cell*>(hash_search(plans, call, HASH_ENTER, &found));
    cell->plan = plan;
    return plan;
}

void say_what_is_built(void* argument) {
    const auto* build = static_cast<const BuildLocal*>(argument);
    errcontext("building \"%.*s\" of namespace \"%s\" for prompt_cache", static_cast<int>(build->key.size()),
               build->key.data(), build->space.name().data());
}

text* run_builder(const Namespace& space, std::string_view key, MemoryContext context) {
    const AsOwnerLocal before = begin_as_builder(space.owner(), space.search_path());
    spi_connect();
    Datum argument = PointerGetDatum(make_text(key));
    const int result = SPI_execute_plan(plan_of(space.call()), &argument, nullptr, true, 1);
    if (result != SPI_OK_SELECT || SPI_processed != 1)
        elog(ERROR, "prompt_cache: builder failed: %s", SPI_result_code_string(result));
    text* value = nullptr;
    if (const auto datum = result_datum(0, 1)) {
        MemoryContext inside = MemoryContextSwitchTo(context);
        value = DatumGetTextPCopy(*datum);
        MemoryContextSwitchTo(inside);
    }
    SPI_finish();
    end_as_owner(before);
    return value;
}

// Runs the builder and learns what the value depends on.
text* build(ValueContext& context, std::string_view key, BuildLocal& build) {
    MemoryContext result = CurrentMemoryContext;
    build.space = copy_namespace(*context.space);
    context.space = &build.space;
    build.key = key;
    build.snapshot = identity_of(context.judge.snapshot);
    build.uncached = context.uncached;
    text* value = nullptr;
    ErrorContextCallback callback{error_context_stack, say_what_is_built, &build};
    building::begin(build);
    PG_TRY();
    {
        error_context_stack = &callback;
        value = run_builder(build.space, key, result);
        error_context_stack = callback.previous;
    }
    PG_FINALLY();
    { building::end(build); }
    PG_END_TRY();
    return value;
}

std::optional<Dependency> depend_by_judge(const void* context, Tag tag) {
    return depend_on(*static_cast<const Judge*>(context), tag);
}

// May what was built be stored at all, for anybody?
bool is_storable(const ValueContext& context, std::string_view key, const BuildLocal& build) {
    if (!build.exact || build.unfinished > 0 || build.tags.full()) return false;
    if (applies(Rule::kTriggersAtStore) && !build.space.sound()) return false;
    if (context.judge.by == Judge::By::kStamps && !build.space.durable()) return false;
    // What nothing watches may have been changed by this very transaction.
    if (build.has_gap && TransactionIdIsValid(GetTopTransactionIdIfAny())) return false;
    return !is_dirty_key(build.space, key) && !is_any_dirty(build.tags.tags());
}

void store_built(const ValueContext& context, std::string_view key, const BuildLocal& build, const text* value) {
    if (!is_storable(context, key, build)) return;
    // The builder has seen every forget_prefix() so far; whether it still has is looked at in memory::store().
    Dependency unless_marked;
    const bool by_marks = context.judge.by == Judge::By::kMarks;
    if (by_marks) {
        const Tag prefix = prefix_tag(build.space.name());
        const core::SlotHistory history = slot_of(prefix).read_locked();
        if (applies(Rule::kPrefixAtStore) && history.store_generation(context.judge.view) != history.gen) return;
        unless_marked = Dependency(slot_number(MyDatabaseId, prefix), history.gen);
    }
    PC_PAUSE("check|publish");
    const ValueToStore entry{
        .wiring = build.space.wiring(),
        .partition = build.space.partition,
        .name = build.space.name(),
        .key = key,
        .flags = static_cast<std::uint8_t>((value ? kFound : 0) | (build.has_gap ? kHasGap : 0) |
                                           dependency_flag(context.judge)),
        .value = value ? view_of(value) : std::string_view{},
        .tags = build.tags.tags(),
        .lifetime = build.space.ttl(),
        .deadline = build.deadline,
    };
    store_value(entry, depend_by_judge, &context.judge, by_marks && applies(Rule::kPrefixAtStore) ? &unless_marked : nullptr, !by_marks);
}

Value build_and_store(ValueContext& context, std::string_view key) {
    auto* build_local = static_cast<BuildLocal*>(palloc(sizeof(BuildLocal)));
    BuildLocal& built = *new (build_local) BuildLocal();
    instr_time began, took;
    INSTR_TIME_SET_CURRENT(began);
    text* value = build(context, key, built);
    if (context.bypass == Bypass::kNone && !context.uncached) {
        INSTR_TIME_SET_CURRENT(took);
        INSTR_TIME_SUBTRACT(took, began);
        count_in(context, Counter::kBuilds);
        count_in(context, Counter::kBuildMicros, INSTR_TIME_GET_MICROSEC(took));
    }
    const std::int64_t ttl = built.space.ttl();
    const std::int64_t now = memory::now();
    if (context.use_memory) store_built(context, key, built, value);
    inherit(built.space.name(), key, &built.tags, nullptr,
            std::min(built.deadline, ttl == INT64_MAX ? ttl : now + ttl), built.has_gap);
    if (BuildLocal* outer = building::current())
        outer->exact = outer->exact && built.exact && built.unfinished == 0 && built.space.sound() && !built.tags.full();
    return {.found = true, .value = value, .source = Source::kBuilt};
}

Value fetch_missing(ValueContext& context, std::string_view key) {
    const Tag tag = entry_tag(context.space->name(), key);
    const Boarding boarding = board(context.judge, EntryKey(EntryKind::kValue, key, context.space->wiring()), tag);
    if (boarding == Boarding::kAlone) return build_and_store(context, key);
    const auto look_or_build = [&] {
        const std::optional<Value> hit = from_memory(context, key);
        return hit ? *hit : build_and_store(context, key);
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
    if (context.uncached) return;
    Counter counter = Counter::kHitsMemory;
    if (bypassed || context.bypass != Bypass::kNone)
        counter = Counter::kBypasses;
    else if (!value.found)
        counter = Counter::kNotFound;
    else if (value.source == Source::kBuilt)
        counter = Counter::kBuiltCalls;
    count_in(context, counter);
}

bool own_ddl_concerns_builder(const Namespace& space) {
    return own_ddl_concerns(
        [](const void* context, Oid relation) { return static_cast<const Namespace*>(context)->is_source(relation); },
        &space);
}

}  // namespace

ValueContext open_value_context(std::string_view name) {
    ValueContext context;
    context.judge = open_judge();
    context.bypass = context.judge.bypass;
    take_hit_behind();  // of a lookup that an error ended
    if (!context.judge.snapshot) {
        PushActiveSnapshot(GetTransactionSnapshot());
        context.judge.snapshot = GetActiveSnapshot();
        context.pushed = true;
    }
    context.around = building::current();
    if (context.around) context.around->unfinished++;
    context.uncached = context.around && context.around->uncached;

    // As for prompts, see open_lookup().
    Judge wiring = context.judge;
    if (context.bypass == Bypass::kSerializable && !has_own_ddl()) wiring.by = Judge::By::kMarks;
    context.space = &namespace_under(wiring, name);
    if (context.bypass == Bypass::kNone && own_ddl_concerns_builder(*context.space)) {
        context.bypass = Bypass::kOwnDdl;
        context.judge.by = Judge::By::kNothing;
        context.space = &namespace_under(context.judge, name);
    }
    context.space->require_usable();
    context.space->require_reader();
    context.use_memory = context.bypass == Bypass::kNone && settings::memory && !context.uncached &&
                         context.space->dependency.has_value() && context.space->partition.holds();
    if (context.use_memory) {
        context.now = memory::now();
        saving::note_database();
    }
    return context;
}

void close_value_context(ValueContext& context) {
    if (context.around) context.around->unfinished--;
    if (context.pushed) PopActiveSnapshot();
}

bool further_agree(const Judge& judge, const FoundEntry& found) {
    FurtherLocal further;
    return read_further(found, further) && further_agree(judge, found, further);
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
        value = context.use_memory && !dirty ? fetch_missing(context, key) : build_and_store(context, key);
    count_lookup(context, *value, dirty);
    return *value;
}

Value get_value(ValueContext& context, std::string_view key) {
    const bool dirty = is_dirty_key(*context.space, key);
    std::optional<Value> value;
    if (context.use_memory && !dirty) value = from_memory(context, key);
    // Whether it is there is no function of what the snapshot sees.
    if (BuildLocal* outer = building::current(); outer && !value) outer->exact = false;
    if (!value) value = Value{};
    count_lookup(context, *value, dirty);
    return *value;
}

text* rebuild_value(ValueContext& context, std::string_view key) {
    context.space->require_builder();
    context.uncached = true;
    context.use_memory = false;
    return build_and_store(context, key).value;
}

void inherit_layers(BuildLocal& build, const LookupContext& context, const LayersLocal& layers,
                    std::string_view user_key) {
    build.exact = build.exact && context.attachment->sound();
    build.tags.add(Tag(TagKind::kUser, user_key));
    build.tags.add(Tag(TagKind::kApplication));
    const LayerLocal& user = layers.layer[core::kUserLayer];
    if (user.pointer) build.tags.add(Tag(TagKind::kTenant, *user.pointer));
}

bool store_value(const ValueToStore& value, DependFn depend, const void* context, const Dependency* unless_marked,
                 bool with_prefix_tag) {
    const auto own = depend(context, entry_tag(value.name, value.key));
    const auto star = depend(context, Tag(TagKind::kAll));
    if (!own || !star) return false;
    const Dependency dependencies[] = {*own, *star};

    FurtherDependency further[kMaxFurtherTags];
    std::size_t count_of = 0;
    const auto add = [&](Tag tag) {
        const auto dependency = count_of < kMaxFurtherTags ? depend(context, tag) : std::nullopt;
        if (dependency) further[count_of++] = {tag, *dependency};
        return dependency.has_value();
    };
    if (!add(namespace_tag(value.name))) return false;
    if (with_prefix_tag && !add(prefix_tag(value.name))) return false;
    for (const Tag tag : value.tags)
        if (!add(tag)) return false;

    const NewEntry entry{
        .flags = value.flags,
        .pointer = {reinterpret_cast<const char*>(further), count_of * sizeof(FurtherDependency)},
        .value = value.value,
        .dependencies = dependencies,
        .partition = value.partition.number,
        .claim = value.partition.claim,
        .lifetime = value.lifetime,
        .deadline = value.deadline,
        .unless_marked = unless_marked,
    };
    const StoreResult result = memory::store(EntryKey(EntryKind::kValue, value.key, value.wiring), entry);
    if (result == StoreResult::kNoRoom || result == StoreResult::kTooLarge)
        count(Counter::kErrors, 1, value.partition.number);
    return result == StoreResult::kStored;
}

}  // namespace prompt_cache
