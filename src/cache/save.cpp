#include "cache/save.hpp"

#include "cache/layer.hpp"
#include "cache/lookup.hpp"
#include "cache/memory.hpp"
#include "cache/saving.hpp"
#include "pg/query.hpp"
#include "tier/durable.hpp"

namespace prompt_cache {

namespace {

// Every layer is taken under the lookup's snapshot, so the stamps that this snapshot sees belong to it.
bool save_layers(LookupContext& context, std::string_view user_key, const LayersLocal& layers) {
    const LayerLocal& user = layers.layer[core::kUserLayer];
    if (!user.found || layers.bypassed) return false;

    DurableRow row;
    row.prompt = view_of(compose(layers));
    row.tenant_key = user.pointer;
    for (unsigned layer = 0; layer < core::kLayers; layer++)
        row.lengths[layer] = layers.layer[layer].text.size();
    row.stamps[kStarStamp] = durable_star(context);
    row.stamps[kApplicationStamp] = shared_stamp(context.judge, Tag(TagKind::kApplication));
    row.stamps[kUserStamp] = stamp_under(Tag(TagKind::kUser, user_key), context.judge.snapshot);
    if (user.pointer)
        row.stamps[kTenantStamp] = shared_stamp(context.judge, Tag(TagKind::kTenant, *user.pointer));
    return write_row(user_key, row);
}

MemoryContext new_scratch() {
    return AllocSetContextCreate(CurrentMemoryContext, "prompt_cache save", ALLOCSET_DEFAULT_SIZES);
}

}  // namespace

std::int64_t save_items(std::span<const SavingItemShared> items) {
    lock_saving();
    LookupContext context = open_lookup();
    std::int64_t written = 0;
    if (context.use_memory && may_use_database(context)) {
        char* buffer = static_cast<char*>(palloc(kMaxKeyLength));
        MemoryContext scratch = new_scratch();
        for (const SavingItemShared& item : items) {
            CHECK_FOR_INTERRUPTS();
            const std::string_view key = memory::user_key_at(item.unit, item.hash, buffer);
            if (key.empty()) continue;
            MemoryContext before = MemoryContextSwitchTo(scratch);
            // What has changed meanwhile is noted again by the lookup that builds it: a worker builds
            // nothing.
            if (const auto layers = layers_in_memory(context, key))
                written += save_layers(context, key, *layers);
            MemoryContextSwitchTo(before);
            MemoryContextReset(scratch);
        }
        MemoryContextDelete(scratch);
    }
    close_lookup(context);
    return written;
}

std::int64_t warm_rows(std::int64_t before, std::uint32_t most) {
    LookupContext context = open_lookup();
    std::int64_t last = 0;
    if (context.use_memory && may_use_database(context)) {
        const std::span<const SavedKey> keys = newest_keys(before, most);
        MemoryContext scratch = new_scratch();
        for (const SavedKey& key : keys) {
            CHECK_FOR_INTERRUPTS();
            MemoryContext outer = MemoryContextSwitchTo(scratch);
            if (fits(context.attachment->user_key(), key.user_key)) warm_layers(context, key.user_key);
            MemoryContextSwitchTo(outer);
            MemoryContextReset(scratch);
            last = key.id;
        }
        MemoryContextDelete(scratch);
    }
    close_lookup(context);
    return last;
}

std::int64_t save_slice(std::uint32_t& bucket, std::uint32_t most) {
    lock_saving();
    LookupContext context = open_lookup();
    std::int64_t written = 0;
    memory::ListCursor cursor{bucket, 0};
    bool more = false;
    if (context.use_memory && may_use_database(context)) {
        MemoryContext scratch = new_scratch();
        auto* listed = static_cast<memory::ListedEntry*>(palloc(sizeof(memory::ListedEntry)));
        std::uint32_t seen = 0;
        // Ends between two buckets, so that the next slice begins with a whole one.
        while ((more = memory::next_entry(cursor, *listed)) && (seen < most || cursor.bucket == bucket)) {
            CHECK_FOR_INTERRUPTS();
            bucket = cursor.bucket;
            if (listed->entry.header.kind != EntryKind::kUser || !listed->entry.has(kFound)) continue;
            seen++;
            MemoryContext before = MemoryContextSwitchTo(scratch);
            const std::string_view key{listed->key, listed->entry.header.key_length};
            if (const auto layers = layers_in_memory(context, key))
                written += save_layers(context, key, *layers);
            MemoryContextSwitchTo(before);
            MemoryContextReset(scratch);
        }
        MemoryContextDelete(scratch);
    }
    bucket = more ? cursor.bucket : 0;
    close_lookup(context);
    return written;
}

std::int64_t save_all() {
    lock_saving();
    LookupContext context = open_lookup();
    std::int64_t written = 0;
    if (context.use_memory && may_use_database(context)) {
        MemoryContext scratch = new_scratch();
        auto* listed = static_cast<memory::ListedEntry*>(palloc(sizeof(memory::ListedEntry)));
        memory::ListCursor cursor;
        while (memory::next_entry(cursor, *listed)) {
            CHECK_FOR_INTERRUPTS();
            if (listed->entry.header.kind != EntryKind::kUser || !listed->entry.has(kFound)) continue;
            // An entry of an earlier wiring, or of a user that has changed since, is not what memory holds.
            const std::string_view key{listed->key, listed->entry.header.key_length};
            FoundEntry current;
            if (!find_valid(context, core::kUserLayer, key, current)) continue;
            MemoryContext before = MemoryContextSwitchTo(scratch);
            written += save_layers(context, key, collect_layers(context, key));
            MemoryContextSwitchTo(before);
            MemoryContextReset(scratch);
        }
        MemoryContextDelete(scratch);
    }
    close_lookup(context);
    return written;
}

bool try_lock_sources() {
    LookupContext context = open_lookup();
    bool locked = true;
    for (const Oid source : context.attachment->sources())
        locked = locked && ConditionalLockRelationOid(source, AccessShareLock);
    close_lookup(context);
    return locked;
}

std::int64_t purge_gone() {
    constexpr std::uint32_t kKeysAtOnce = 500;
    lock_saving();
    LookupContext context = open_lookup();
    std::int64_t purged = 0;
    MemoryContext scratch = new_scratch();
    std::optional<std::string_view> after;
    for (std::size_t count = kKeysAtOnce; count == kKeysAtOnce;) {
        MemoryContext before = MemoryContextSwitchTo(scratch);
        const std::span<const std::string_view> keys = saved_keys(after, kKeysAtOnce);
        for (const std::string_view key : keys) {
            CHECK_FOR_INTERRUPTS();
            if (!fits(context.attachment->user_key(), key) || !user_exists(*context.attachment, key))
                purged += delete_rows(key);
        }
        count = keys.size();
        if (count > 0) {
            MemoryContextSwitchTo(before);
            after = copy_into(before, keys.back());
        }
        MemoryContextSwitchTo(before);
        MemoryContextReset(scratch);
    }
    MemoryContextDelete(scratch);
    close_lookup(context);
    return purged;
}

}  // namespace prompt_cache
