#include "cache/remote.hpp"

namespace prompt_cache {

using core::applies;
using core::Rule;
using core::StampedTag;

namespace {

// A row's stamp concerns one entry, the others many.
Stamp stamp_seen(const RemoteContext& context, Tag tag) {
    switch (tag.tag_class()) {
        case TagClass::kAll:
            return context.star;
        case TagClass::kRow:
            return stamp_under(tag, context.judge);
        default:
            return shared_stamp(context.judge, tag);
    }
}

bool is_current(const RemoteContext& context, const StampedTag& carried) {
    Tag tag;
    tag.hash = carried.tag;
    return stamp_seen(context, tag) == Stamp{carried.weight, carried.nonces};
}

bool names(std::span<const StampedTag> tags, Tag tag) noexcept {
    return std::ranges::any_of(tags, [&](const StampedTag& named) { return named.tag == tag.hash; });
}

StampedTag stamped(const RemoteContext& context, Tag tag) {
    const Stamp stamp = stamp_seen(context, tag);
    return {tag.hash, stamp.weight, stamp.nonces};
}

// TRUNCATE and rewrites show through older snapshots. What was built after one under a snapshot of before it
// would carry the stamp of before, and be taken for exact by a server that has not got that far, or was set
// back. A primary asks the slot of `*`, a standby whether its stamp is still what a snapshot of now sees.
bool may_outlive(const RemoteContext& context) {
    if (context.judge.by == Judge::By::kMarks) return sees_all_ended(Wide::kAll, context.judge.view);
    if (context.judge.by != Judge::By::kStamps || IsInParallelMode()) return false;
    const Tag star(TagKind::kAll);
    const Stamp seen = stamp_under(star, context.judge);
    Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
    const Stamp now = stamp_under(star, latest);
    UnregisterSnapshot(latest);
    return now == seen;
}

}  // namespace

std::optional<redis::Candidate> fetch_remote(const RemoteContext& context, const redis::EntryName& name) {
    const std::optional<redis::Candidate> candidate = redis::load(context.patience, name);
    if (!candidate) return std::nullopt;
    const bool current =
        names(candidate->tags, name.own) && names(candidate->tags, Tag(TagKind::kAll)) &&
        std::ranges::all_of(candidate->tags, [&](const StampedTag& tag) { return is_current(context, tag); });
    if (current || !applies(Rule::kRemoteStamps)) return candidate;
    redis::count_stale();
    return std::nullopt;
}

void store_remote(const RemoteContext& context, const redis::EntryName& name, std::span<const Tag> tags,
                  const redis::Value& value, std::int64_t ttl) {
    if (!redis::is_on() || context.patience.spent) return;
    std::array<StampedTag, core::Envelope::kMaxTags> carried;
    if (tags.size() + 2 > carried.size()) return;
    std::size_t count = 0;
    carried[count++] = stamped(context, name.own);
    carried[count++] = stamped(context, Tag(TagKind::kAll));
    for (const Tag tag : tags) carried[count++] = stamped(context, tag);
    if (may_outlive(context)) redis::save(context.patience, name, {carried.data(), count}, value, ttl);
}

}  // namespace prompt_cache
