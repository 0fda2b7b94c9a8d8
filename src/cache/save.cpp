#include "cache/save.hpp"

#include "cache/layer.hpp"
#include "cache/lookup.hpp"
#include "cache/memory.hpp"
#include "tier/durable.hpp"

namespace prompt_cache {

namespace {

// Every layer is taken under the lookup's snapshot, so the stamps that this snapshot sees belong to it.
bool save_user(LookupContext& context, std::string_view user_key) {
    const LayersLocal layers = collect_layers(context, user_key);
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

}  // namespace

std::int64_t save_all() {
    LookupContext context = open_lookup();
    std::int64_t written = 0;
    if (context.use_memory && may_use_database(context)) {
        MemoryContext scratch =
            AllocSetContextCreate(CurrentMemoryContext, "prompt_cache save", ALLOCSET_DEFAULT_SIZES);
        auto* listed = static_cast<memory::ListedEntry*>(palloc(sizeof(memory::ListedEntry)));
        memory::ListCursor cursor;
        while (memory::next_entry(cursor, *listed)) {
            CHECK_FOR_INTERRUPTS();
            if (listed->entry.header.kind != EntryKind::kUser || !listed->entry.has(kFound)) continue;
            // An entry of an earlier wiring, or of a user that has changed since, is not what memory holds.
            const std::string_view key{listed->key, listed->entry.header.key_length};
            FoundEntry current;
            if (!find_valid(context, EntryKind::kUser, key, current)) continue;
            MemoryContext before = MemoryContextSwitchTo(scratch);
            written += save_user(context, key);
            MemoryContextSwitchTo(before);
            MemoryContextReset(scratch);
        }
        MemoryContextDelete(scratch);
    }
    close_lookup(context);
    return written;
}

std::int64_t purge_gone() {
    LookupContext context = open_lookup();
    std::int64_t purged = 0;
    for (auto key = next_saved_key({}); key; key = next_saved_key(key)) {
        CHECK_FOR_INTERRUPTS();
        if (!fits(context.attachment->user_key(), *key) ||
            !build_layer(*context.attachment, core::kUserLayer, *key).found)
            purged += delete_rows(*key);
    }
    close_lookup(context);
    return purged;
}

}  // namespace prompt_cache
