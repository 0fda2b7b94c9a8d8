#include "cache/save.hpp"

#include "cache/layer.hpp"
#include "cache/lookup.hpp"
#include "cache/memory.hpp"
#include "cache/saving.hpp"
#include "pg/attempt.hpp"
#include "pg/query.hpp"
#include "pg/settings.hpp"
#include "tier/durable.hpp"
#include "tier/usage_order.hpp"

namespace prompt_cache {

namespace {

constexpr std::uint32_t kSlice = 500;  // users between two subtransactions of flush()

// Does `one` for each user, in scratch memory; it returns a number, and so does this: the sum.
template <typename One>
std::int64_t for_each_user(std::span<const std::string_view> keys, LeftOutLocal& left_out, One one) {
    MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "prompt_cache walk", ALLOCSET_DEFAULT_SIZES);
    std::int64_t sum = 0;
    const auto add = [&](std::string_view key) {
        CHECK_FOR_INTERRUPTS();
        MemoryContext before = MemoryContextSwitchTo(scratch);
        sum += one(key);
        MemoryContextSwitchTo(before);
        MemoryContextReset(scratch);
    };
    if (attempt_quietly([&] {
            for (const std::string_view key : keys) add(key);
        })) {
        sum = 0;
        for (const std::string_view key : keys) {
            const ErrorData* error = attempt_quietly([&] { add(key); });
            if (!error || left_out.count++ > 0) continue;
            left_out.why = psprintf("user \"%.*s\": %s", static_cast<int>(key.size()), key.data(), error->message);
            left_out.text = error->detail_log;
        }
    }
    MemoryContextDelete(scratch);
    return sum;
}

// Every layer is taken under the lookup's snapshot, so the stamps that this snapshot sees belong to it.
bool save_layers(LookupContext& context, std::string_view user_key, const LayersLocal& layers) {
    const LayerLocal& user = layers.layer[core::kUserLayer];
    if (!user.found || layers.bypassed || !layers.storable()) return false;

    DurableRow row;
    row.prompt = view_of(compose(layers));
    row.tenant_key = user.pointer;
    for (unsigned layer = 0; layer < core::kLayers; layer++)
        row.lengths[layer] = layers.layer[layer].text.size();
    row.stamps[kStarStamp] = durable_star(context);
    row.stamps[kApplicationStamp] = shared_stamp(context.judge, Tag(TagKind::kApplication));
    row.stamps[kUserStamp] = stamp_under(Tag(TagKind::kUser, user_key), context.judge);
    if (user.pointer)
        row.stamps[kTenantStamp] = shared_stamp(context.judge, Tag(TagKind::kTenant, *user.pointer));
    return write_row(user_key, row);
}

// What has changed meanwhile is noted again by the lookup that builds it: a worker builds nothing.
bool save_from_memory(LookupContext& context, std::string_view key) {
    const auto layers = layers_in_memory(context, key);
    return layers && save_layers(context, key, *layers);
}

// Builds the shared layers that memory has lost. An entry of an earlier wiring, or of a user that has changed
// since, is not what memory holds.
bool save_with_builds(LookupContext& context, std::string_view key) {
    FoundEntry current;
    return find_valid(context, core::kUserLayer, key, current) &&
           save_layers(context, key, collect_layers(context, key));
}

LookupContext open_walk() {
    LookupContext context = open_lookup();
    context.is_walk = true;
    return context;
}

bool may_work(const LookupContext& context) {
    return context.use_memory && may_use_database(context);
}

// Where nothing may be cached at all there is nothing to come back for.
Progress put_off(const LookupContext& context) {
    return context.attachment->sound() && context.attachment->durable() ? Progress::kNotNow : Progress::kDone;
}

// The users in memory from a bucket on, about `most`. Ends between two buckets, so that the next slice begins
// with a whole one. Moves `bucket` on; 0 at the end.
std::span<const std::string_view> users_in_memory(std::uint32_t& bucket, std::uint32_t most) {
    memory::ListCursor cursor{bucket, 0};
    auto* listed = static_cast<memory::ListedEntry*>(palloc(sizeof(memory::ListedEntry)));
    std::size_t room = most + 64;
    auto* keys = static_cast<std::string_view*>(palloc(room * sizeof(std::string_view)));
    std::size_t count = 0;
    bool more = false;
    while ((more = memory::next_entry(cursor, *listed)) && (count < most || cursor.bucket == bucket)) {
        CHECK_FOR_INTERRUPTS();
        bucket = cursor.bucket;
        const EntryShared& header = listed->entry.header;
        if (header.kind != EntryKind::kUser || !listed->entry.has(kFound)) continue;
        if (count == room) {
            room *= 2;
            keys = static_cast<std::string_view*>(repalloc(keys, room * sizeof(std::string_view)));
        }
        keys[count++] = copy_into(CurrentMemoryContext, {listed->key, header.key_length});
    }
    bucket = more ? cursor.bucket : 0;
    pfree(listed);
    return {keys, count};
}

// The users of the newest rows older than row `before`, and the oldest of these rows, 0 if there are none.
struct KeysOfRows {
    std::span<const std::string_view> keys;
    std::int64_t oldest;
};
KeysOfRows keys_of_rows(std::int64_t before, std::uint32_t most) {
    const std::span<const SavedKey> rows = newest_keys(before, most);
    auto* keys = static_cast<std::string_view*>(palloc(most * sizeof(std::string_view)));
    for (std::size_t i = 0; i < rows.size(); i++) keys[i] = rows[i].user_key;
    return {{keys, rows.size()}, rows.empty() ? 0 : rows.back().id};
}

}  // namespace

Progress save_items(std::span<const SavingItemShared> items, std::int64_t& written, LeftOutLocal& left_out) {
    lock_saving();
    LookupContext context = open_walk();
    Progress progress = put_off(context);
    if (may_work(context)) {
        char* buffer = static_cast<char*>(palloc(kMaxKeyLength));
        auto* keys = static_cast<std::string_view*>(palloc(items.size() * sizeof(std::string_view)));
        std::size_t count = 0;
        for (const SavingItemShared& item : items) {
            const std::string_view key = memory::user_key_at(item.hash, buffer);
            if (!key.empty()) keys[count++] = copy_into(CurrentMemoryContext, key);
        }
        written = for_each_user({keys, count}, left_out,
                                [&](std::string_view key) { return save_from_memory(context, key); });
        progress = Progress::kDone;
    }
    close_lookup(context);
    return progress;
}

Progress save_slice(std::uint32_t& bucket, std::uint32_t most, std::int64_t& written,
                    LeftOutLocal& left_out) {
    lock_saving();
    LookupContext context = open_walk();
    Progress progress = put_off(context);
    if (may_work(context)) {
        written = for_each_user(users_in_memory(bucket, most), left_out,
                                [&](std::string_view key) { return save_from_memory(context, key); });
        progress = bucket == 0 ? Progress::kDone : Progress::kMore;
    }
    close_lookup(context);
    return progress;
}

std::int64_t save_all() {
    lock_saving();
    LookupContext context = open_walk();
    std::int64_t written = 0;
    LeftOutLocal left_out;
    if (may_work(context)) {
        MemoryContext slice =
            AllocSetContextCreate(CurrentMemoryContext, "prompt_cache flush", ALLOCSET_DEFAULT_SIZES);
        std::uint32_t bucket = 0;
        do {
            MemoryContext before = MemoryContextSwitchTo(slice);
            LeftOutLocal of_slice;
            written += for_each_user(users_in_memory(bucket, kSlice), of_slice,
                                     [&](std::string_view key) { return save_with_builds(context, key); });
            MemoryContextSwitchTo(before);
            if (of_slice.count > 0 && left_out.count == 0) {
                left_out.why = pstrdup(of_slice.why);
                left_out.text = pstrdup(of_slice.text);
            }
            left_out.count += of_slice.count;
            MemoryContextReset(slice);
        } while (bucket != 0);
        MemoryContextDelete(slice);
        // Under an old snapshot it might not be the first to write there, and that is not worth an error.
        if (saving::is_warm() && !IsolationUsesXactSnapshot()) save_usage_order();
    }
    close_lookup(context);
    if (left_out.count > 0)
        ereport(WARNING, (errmsg("the prompts of %u users were not saved", left_out.count),
                          errdetail("The first is %s", left_out.why),
                          errdetail_log("The first is %s\n%s", left_out.why, left_out.text)));
    return written;
}

namespace {

struct UsedLocal {
    std::uint32_t heat;
    std::uint32_t serial;
    std::uint32_t bytes;
    std::string_view key;

    // Of equals the one that was stored first: after a restart that is the order they were brought back in.
    bool operator<(const UsedLocal& other) const noexcept {
        return heat != other.heat ? heat > other.heat : serial < other.serial;
    }
};

std::span<UsedLocal> users_in_use() {
    auto* listed = static_cast<memory::ListedEntry*>(palloc(sizeof(memory::ListedEntry)));
    std::size_t room = 1024;
    auto* used = static_cast<UsedLocal*>(palloc(room * sizeof(UsedLocal)));
    std::size_t count = 0;
    for (memory::ListCursor cursor; memory::next_entry(cursor, *listed);) {
        CHECK_FOR_INTERRUPTS();
        const EntryShared& header = listed->entry.header;
        if (header.kind != EntryKind::kUser || !listed->entry.has(kFound) || listed->heat == 0) continue;
        if (count == room) {
            room *= 2;
            used = static_cast<UsedLocal*>(repalloc_huge(used, room * sizeof(UsedLocal)));
        }
        used[count++] = {listed->heat, header.serial, listed->bytes,
                         copy_into(CurrentMemoryContext, {listed->key, header.key_length})};
    }
    return {used, count};
}

}  // namespace

void save_usage_order() {
    MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "prompt_cache usage order", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(scratch);
    const std::span<UsedLocal> used = users_in_use();
    std::sort(used.begin(), used.end());
    auto* keys = static_cast<std::string_view*>(
        MemoryContextAllocHuge(scratch, std::max<std::size_t>(used.size(), 1) * sizeof(std::string_view)));
    std::size_t count = 0;
    const std::uint64_t room = memory::bytes_of_share(settings::warm_share);
    for (std::uint64_t bytes = 0; count < used.size() && bytes < room; count++) {
        keys[count] = used[count].key;
        bytes += used[count].bytes;
    }
    // Where nothing was used, what is known of before is the better guess.
    if (count > 0) write_usage_order({keys, count});
    MemoryContextSwitchTo(before);
    MemoryContextDelete(scratch);
}

namespace {

void warm_user(LookupContext& context, std::string_view key) {
    if (fits(context.attachment->user_key(), key)) warm_layers(context, key);
}

bool warm_used(LookupContext& context, std::int32_t rank, LeftOutLocal& left_out) {
    const std::span<const std::string_view> keys = read_usage_order(rank);
    for_each_user(keys, left_out, [&](std::string_view key) {
        warm_user(context, key);
        // It was hot before and is so again, for eviction and for the next order.
        FoundEntry found;
        if (find_valid(context, core::kUserLayer, key, found)) memory::count_use(found);
        return 0;
    });
    return !keys.empty();
}

bool warm_newest(LookupContext& context, std::int64_t& before, std::uint32_t most, LeftOutLocal& left_out) {
    const KeysOfRows rows = keys_of_rows(before, most);
    for_each_user(rows.keys, left_out, [&](std::string_view key) {
        warm_user(context, key);
        return 0;
    });
    before = rows.oldest;
    return before > 0;
}

}  // namespace

Progress warm_slice(std::int32_t& rank, std::int64_t& before, std::uint32_t most, LeftOutLocal& left_out) {
    LookupContext context = open_walk();
    Progress progress = put_off(context);
    if (may_work(context)) {
        progress = Progress::kMore;
        if (rank >= 0)
            rank = warm_used(context, rank, left_out) ? rank + 1 : -1;
        else if (!warm_newest(context, before, most, left_out))
            progress = Progress::kDone;
    }
    close_lookup(context);
    return progress;
}

bool try_lock_sources() {
    LookupContext context = open_lookup();
    bool locked = true;
    for (const Oid source : context.attachment->sources())
        locked = locked && ConditionalLockRelationOid(source, AccessShareLock);
    close_lookup(context);
    return locked;
}

std::int64_t purge_slice(std::int64_t& before, std::uint32_t most, LeftOutLocal& left_out) {
    lock_saving();
    LookupContext context = open_lookup();
    const KeysOfRows rows = keys_of_rows(before, most);
    const std::int64_t purged = for_each_user(rows.keys, left_out, [&](std::string_view key) {
        const bool exists =
            fits(context.attachment->user_key(), key) && user_exists(*context.attachment, key);
        return exists ? std::int64_t{0} : delete_rows(key);
    });
    before = rows.oldest;
    close_lookup(context);
    return purged;
}

std::int64_t purge_gone() {
    MemoryContext slice =
        AllocSetContextCreate(CurrentMemoryContext, "prompt_cache purge", ALLOCSET_DEFAULT_SIZES);
    std::int64_t purged = 0;
    std::uint32_t kept = 0;
    for (std::int64_t before = INT64_MAX; before > 0;) {
        MemoryContext outer = MemoryContextSwitchTo(slice);
        LeftOutLocal left_out;
        purged += purge_slice(before, kSlice, left_out);
        MemoryContextSwitchTo(outer);
        kept += left_out.count;
        MemoryContextReset(slice);
    }
    MemoryContextDelete(slice);
    if (kept > 0) ereport(WARNING, (errmsg("whether %u users are gone could not be found out", kept)));
    return purged;
}

}  // namespace prompt_cache
