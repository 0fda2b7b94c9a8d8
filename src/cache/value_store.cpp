#include "cache/value_store.hpp"

#include "cache/remote.hpp"
#include "cache/writer.hpp"
#include "pg/pause.hpp"
#include "pg/settings.hpp"

namespace prompt_cache {

using core::applies;
using core::Counter;
using core::Rule;

namespace {

std::optional<Dependency> depend_by_judge(const void* context, Tag tag) {
    return depend_on(*static_cast<const Judge*>(context), tag);
}

// May what was built be stored at all, for anybody?
bool is_storable(const ValueContext& context, const BuildLocal& build) {
    if (!is_whole(build)) return false;
    if (context.judge.by == Judge::By::kStamps && !(build.durable && build.space.durable())) return false;
    // What nothing watches may have been changed by this very transaction, and lives for a time from now on, which must
    // be the time that its snapshot was taken.
    if (build.has_gap && (TransactionIdIsValid(GetTopTransactionIdIfAny()) || IsolationUsesXactSnapshot())) return false;
    return !is_dirty_key(build.space, build.key) && !is_any_dirty(build.tags.tags());
}

// Namespaces begin with a slash there, so that none is taken for a layer.
struct RemoteName {
    char space[NAMEDATALEN + 1];
    redis::EntryName entry;

    explicit RemoteName(const BuildLocal& build) {
        space[0] = '/';
        memcpy(space + 1, build.space.name().data(), build.space.name().size());
        entry = {{space, build.space.name().size() + 1}, build.key, entry_tag(build.space.name(), build.key)};
    }
};

// TRUNCATE of a partition fires no trigger of ours where the library is not preloaded: only the file numbers
// tell of it.
Stamp remote_star(const ValueContext& context, const BuildLocal& build) {
    Stamp stamp = shared_stamp(context.judge, Tag(TagKind::kAll));
    stamp.nonces ^= build.space.storage();
    return stamp;
}

bool may_use_redis(const ValueContext& context, const BuildLocal& build) {
    if (!redis::is_on() || !build.space.redis() || context.uncached || !build.space.sound() || !build.space.durable() ||
        !build.space.dependency)
        return false;
    return context.judge.by == Judge::By::kStamps ||
           (context.judge.by == Judge::By::kMarks && sees_all_ended(Wide::kAll, context.judge.view));
}

// What an entry of Redis hangs on besides its own tag and `*`.
TagListLocal remote_tags(const BuildLocal& build) {
    TagListLocal tags = build.tags;
    tags.add(namespace_tag(build.space.name()));
    tags.add(prefix_tag(build.space.name()));
    return tags;
}

// No longer than what it was built from.
std::int64_t seconds_in_redis(const BuildLocal& build) {
    const std::int64_t ttl = build.space.redis_ttl();
    const std::int64_t own = ttl == INT64_MAX ? settings::redis_ttl : std::max<std::int64_t>(ttl / 1000000, 1);
    return build.deadline == INT64_MAX ? own : std::min(own, (build.deadline - memory::now()) / 1000000);
}

}  // namespace

bool is_whole(const BuildLocal& build) noexcept {
    return build.exact && build.unfinished == 0 && !build.tags.full() &&
           (build.space.sound() || !applies(Rule::kTriggersAtStore));
}

void store_in_memory(const ValueContext& context, const BuildLocal& build, const text* value) {
    if (!is_storable(context, build)) return;
    // What the namespace is must still hold: the build may have waited for a lock.
    const auto star = depend_on(context.judge, Tag(TagKind::kAll));
    if (!star || star != build.space.dependency) return;
    // The builder has seen every forget_prefix() so far; whether it still has is looked at in memory::store().
    Dependency unless_marked;
    const bool by_marks = context.judge.by == Judge::By::kMarks;
    if (by_marks) {
        const Tag prefix = prefix_tag(build.space.name());
        const core::SlotHistory history = slot_of(prefix).read_locked();
        if (applies(Rule::kPrefixAtStore) && history.store_generation(context.judge.view) != history.gen) return;
        unless_marked = Dependency(slot_number(prefix), history.gen);
    }
    PC_PAUSE("check|publish");
    const ValueToStore entry{
        .wiring = build.space.wiring(),
        .partition = build.space.partition,
        .name = build.space.name(),
        .key = build.key,
        .flags = static_cast<std::uint8_t>((value ? kFound : 0) | (build.has_gap ? kHasGap : 0) |
                                           (build.deadline < INT64_MAX ? kHasDeadline : 0) |
                                           (build.durable ? 0 : kUnlogged) | dependency_flag(context.judge)),
        .value = value ? view_of(value) : std::string_view{},
        .tags = build.tags.tags(),
        .lifetime = build.space.ttl(),
        .deadline = build.deadline,
    };
    store_value(entry, depend_by_judge, &context.judge, by_marks && applies(Rule::kPrefixAtStore) ? &unless_marked : nullptr, !by_marks);
}

void store_in_redis(ValueContext& context, const BuildLocal& build, const text* value) {
    if (build.has_gap || !build.durable || !may_use_redis(context, build) || !is_storable(context, build)) return;
    const TagListLocal tags = remote_tags(build);
    const std::span<const Tag> hashes = tags.tags();
    const std::int64_t ttl = seconds_in_redis(build);
    if (tags.full() || ttl <= 0) return;
    const redis::Value stored{.flags = static_cast<std::uint8_t>((value ? kFound : 0) | (build.deadline < INT64_MAX ? kHasDeadline : 0)),
                              .pointer = {},
                              .text = value ? view_of(value) : std::string_view{}};
    const RemoteName name(build);
    store_remote({context.judge, remote_star(context, build), context.redis}, name.entry, hashes, stored,
                 ttl);
}

std::optional<text*> value_from_redis(ValueContext& context, BuildLocal& build) {
    if (!may_use_redis(context, build)) return std::nullopt;
    const RemoteName name(build);
    const auto found = fetch_remote({context.judge, remote_star(context, build), context.redis}, name.entry);
    if (!found) return std::nullopt;
    for (const core::StampedTag& named : found->tags) {
        const Tag tag = Tag::of_hash(named.tag);
        if (tag != name.entry.own && tag != Tag(TagKind::kAll)) build.tags.add(tag);
    }
    if ((found->value.flags & kHasDeadline) != 0) build.deadline = std::min(build.deadline, memory::now() + found->left);
    if (build.tags.full() || is_any_dirty(build.tags.tags())) return std::nullopt;
    return (found->value.flags & kFound) != 0 ? make_text(found->value.text) : nullptr;
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
