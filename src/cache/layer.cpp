#include "cache/layer.hpp"

#include "cache/flight.hpp"
#include "cache/remote.hpp"
#include "cache/writer.hpp"
#include "core/composition.hpp"
#include "pg/pause.hpp"
#include "pg/settings.hpp"

namespace prompt_cache {

using core::applies;
using core::Rule;

Tag layer_tag(core::LayerIndex layer, std::string_view key) noexcept {
    return Tag(kLayerTraits[layer].tag, key);
}

core::LayerIndex layer_of(EntryKind kind) noexcept {
    unsigned layer = 0;
    while (layer + 1 < core::kLayers && kLayerTraits[layer].kind != kind) layer++;
    return static_cast<core::LayerIndex>(layer);
}

std::optional<LayerLocal> layer_from_memory(const LookupContext& context, core::LayerIndex layer,
                                            std::string_view key) {
    FoundEntry found;
    if (!find_valid(context, layer, key, found)) return std::nullopt;
    char* bytes = static_cast<char*>(MemoryContextAllocHuge(
        CurrentMemoryContext, found.header.value_length + found.header.pointer_length + 1));
    if (!memory::read_pointer(found, bytes) ||
        !memory::read_value(found, bytes + found.header.pointer_length) || !memory::still_there(found))
        return std::nullopt;
    if (!context.is_walk) memory::count_use(found);
    LayerLocal copy;
    copy.found = found.has(kFound);
    if (found.has(kHasPointer)) copy.pointer = {bytes, found.header.pointer_length};
    copy.text = {bytes + found.header.pointer_length, found.header.value_length};
    return copy;
}

namespace {

bool stamp_is_current(const Stamp& seen, const Stamp& carried) {
    return seen == carried || !applies(Rule::kDurableStamps);
}

// The user's stamp concerns one row, the others many.
Stamp stamp_seen(const LookupContext& context, core::LayerIndex layer, std::string_view key) {
    const Tag tag = layer_tag(layer, key);
    return layer == core::kUserLayer ? stamp_under(tag, context.judge)
                                     : shared_stamp(context.judge, tag);
}

}  // namespace

Stamp durable_star(const LookupContext& context) {
    Stamp stamp = shared_stamp(context.judge, Tag(TagKind::kAll));
    stamp.nonces ^= static_cast<std::int64_t>(context.attachment->storage());
    return stamp;
}

std::optional<LayerLocal> layer_from_row(const LookupContext& context, RowLocal& local,
                                         core::LayerIndex layer, std::string_view key,
                                         std::string_view user_key) {
    if (!local.read) {
        local.read = true;
        if (may_use_database(context)) local.row = read_newest_row(user_key);
        local.current = local.row && stamp_is_current(durable_star(context), local.row->stamps[kStarStamp]);
    }
    if (!local.current) return std::nullopt;
    const DurableRow& row = *local.row;
    if (layer == core::kTenantLayer && row.tenant_key != key) return std::nullopt;
    if (!stamp_is_current(stamp_seen(context, layer, key), row.stamps[kLayerTraits[layer].stamp]))
        return std::nullopt;
    LayerLocal found;
    found.found = true;  // of a tenant or application that is not there only the text matters, and it is ''
    if (layer == core::kUserLayer) found.pointer = row.tenant_key;
    found.text = core::Composition(row.lengths).layer_of(row.prompt, layer);
    return found;
}

namespace {

std::uint8_t flags_of(const LayerLocal& value) noexcept {
    return static_cast<std::uint8_t>((value.found ? kFound : 0) | (value.pointer ? kHasPointer : 0));
}

redis::EntryName remote_name(core::LayerIndex layer, std::string_view key) noexcept {
    return {kLayerTraits[layer].name, key, layer_tag(layer, key)};
}

}  // namespace

std::optional<LayerLocal> layer_from_redis(LookupContext& context, core::LayerIndex layer,
                                           std::string_view key) {
    if (!redis::is_on() || !may_use_stamps(context)) return std::nullopt;
    const std::optional<redis::Candidate> candidate =
        fetch_remote({context.judge, durable_star(context), context.redis}, remote_name(layer, key));
    if (!candidate) return std::nullopt;
    const redis::Value& value = candidate->value;
    LayerLocal found;
    found.found = (value.flags & kFound) != 0;
    if (value.flags & kHasPointer) found.pointer = value.pointer;
    found.text = value.text;
    return found;
}

namespace {

void store_in_redis(LookupContext& context, core::LayerIndex layer, std::string_view key,
                    const LayerLocal& value) {
    if (!value.storable || !redis::is_on() || !may_use_stamps(context)) return;
    store_remote({context.judge, durable_star(context), context.redis}, remote_name(layer, key), {},
                 {flags_of(value), value.pointer.value_or(""), value.text});
}

// Stores what was built under the judge's snapshot, if every tag of it can be vouched for.
void store_layer(const LookupContext& context, core::LayerIndex layer, std::string_view key,
                 const LayerLocal& value) {
    if (applies(Rule::kTriggersAtStore) && !context.attachment->sound()) return;
    if (!value.storable) return;
    if (context.judge.by == Judge::By::kStamps && !context.attachment->durable()) return;
    const auto own = depend_on(context.judge, layer_tag(layer, key));
    const auto star = depend_on(context.judge, Tag(TagKind::kAll));
    // The wiring it was built by must still be the one of the snapshot: the build may have waited for a lock.
    if (!own || !star || star != context.attachment->dependency) return;
    PC_PAUSE("check|publish");
    const Dependency dependencies[] = {*own, *star};
    NewEntry entry;
    entry.flags = static_cast<std::uint8_t>(flags_of(value) | dependency_flag(context.judge));
    entry.pointer = value.pointer.value_or("");
    entry.value = value.text;
    entry.dependencies = dependencies;
    const StoreResult result = memory::store(EntryKey(kLayerTraits[layer].kind, key), entry);
    if (result == StoreResult::kNoRoom || result == StoreResult::kTooLarge) count(core::Counter::kErrors);
}

// One layer of one lookup.
struct LayerRequest {
    LookupContext& context;
    RowLocal& row;        // read at most once for all layers
    LayersLocal& layers;  // where the worst source and a bypass are noted
    core::LayerIndex layer;
    std::string_view key;
    std::string_view user_key;
    bool dirty = false;  // this transaction has changed it: no tier is asked, nothing is stored
};

LayerLocal build_and_count(const LayerRequest& request) {
    instr_time began, took;
    INSTR_TIME_SET_CURRENT(began);
    const LayerLocal built = build_layer(*request.context.attachment, request.layer, request.key);
    if (shared && !request.dirty && request.context.bypass == Bypass::kNone) {
        INSTR_TIME_SET_CURRENT(took);
        INSTR_TIME_SUBTRACT(took, began);
        count(core::Counter::kBuilds);
        count(core::Counter::kBuildMicros, INSTR_TIME_GET_MICROSEC(took));
    }
    return built;
}

// From Redis, else from the table, else by a build; stored in the tiers above where it may be.
LayerLocal produce_layer(const LayerRequest& request) {
    LookupContext& context = request.context;
    std::optional<LayerLocal> value;
    Source source = Source::kRedis;
    if (!request.dirty) value = layer_from_redis(context, request.layer, request.key);
    if (!value && !request.dirty) {
        source = Source::kDatabase;
        value = layer_from_row(context, request.row, request.layer, request.key, request.user_key);
    }
    if (!value) {
        source = Source::kBuilt;
        value = build_and_count(request);
    }
    request.layers.source = std::max(request.layers.source, source);
    if (request.dirty) return *value;
    if (context.use_memory) store_layer(context, request.layer, request.key, *value);
    if (source != Source::kRedis) store_in_redis(context, request.layer, request.key, *value);
    return *value;
}

LayerLocal obtain_layer(LayerRequest request) {
    const Tag tag = layer_tag(request.layer, request.key);
    request.dirty = is_dirty(tag);
    request.layers.bypassed |= request.dirty;
    if (request.dirty || !request.context.use_memory) return produce_layer(request);

    const auto look = [&] { return layer_from_memory(request.context, request.layer, request.key); };
    const auto look_or_produce = [&] {
        const std::optional<LayerLocal> copy = look();
        return copy ? *copy : produce_layer(request);
    };
    if (const auto copy = look()) return *copy;
    const EntryKey entry(kLayerTraits[request.layer].kind, request.key);
    const Boarding boarding = board(request.context.judge, entry, tag);
    if (boarding == Boarding::kAlone) return produce_layer(request);
    if (boarding == Boarding::kLanded) return look_or_produce();

    LayerLocal value;
    PG_TRY();
    { value = look_or_produce(); }  // another may have landed before we took off
    PG_FINALLY();
    { land(); }
    PG_END_TRY();
    return value;
}

Verdict judge_found(const LookupContext& context, core::LayerIndex layer, std::string_view key,
                    const FoundEntry& found) {
    const auto tag = [&] { return layer_tag(layer, key); };
    if (found.header.expires <= context.now) return Verdict::kExpired;
    // The wiring hangs on `*` too, and has been judged.
    if (found.dependencies[1] != context.attachment->dependency &&
        !agrees(context.judge, found, 1, [] { return Tag(TagKind::kAll); }))
        return Verdict::kChanged;
    return agrees(context.judge, found, 0, tag) ? Verdict::kHit : Verdict::kChanged;
}

// The entry of a shared layer that this backend found last. While its bucket has not moved it is linked, and
// what has been copied of it is true. It is looked for anew after a second all the same: a bucket moves under
// a lock, and not 2^31 times in a second.
struct SharedEntryLocal {
    static constexpr std::int64_t kTrusted = 1000000;

    FoundEntry entry{};
    Oid database = InvalidOid;
    std::int64_t found_at = 0;
    std::size_t key_length = 0;
    char key[64] = {};

    bool has(std::string_view wanted, std::int64_t now) const noexcept {
        if (database != MyDatabaseId || now - found_at >= kTrusted || wanted.size() != key_length)
            return false;
        for (std::size_t i = 0; i < key_length; i++)
            if (key[i] != wanted[i]) return false;
        return memory::still_there(entry);
    }
    void remember(std::string_view its_key, std::int64_t now) noexcept {
        database = its_key.size() <= sizeof(key) ? MyDatabaseId : InvalidOid;
        if (database == InvalidOid) return;
        found_at = now;
        key_length = its_key.size();
        std::copy(its_key.begin(), its_key.end(), key);
    }
};
SharedEntryLocal shared_local[core::kUserLayer];

}  // namespace

Verdict judge_entry(const LookupContext& context, core::LayerIndex layer, const EntryKey& key,
                    FoundEntry& found) {
    if (anything_is_dirty() && is_dirty(layer_tag(layer, key.text))) return Verdict::kDirty;
    if (!memory::find(key, found)) return Verdict::kNotThere;
    return judge_found(context, layer, key.text, found);
}

bool find_valid(const LookupContext& context, core::LayerIndex layer, const EntryKey& key,
                FoundEntry& found) {
    return judge_entry(context, layer, key, found) == Verdict::kHit;
}

const FoundEntry* find_valid_shared(const LookupContext& context, core::LayerIndex layer,
                                    std::string_view key) {
    SharedEntryLocal& last = shared_local[layer];
    if (anything_is_dirty() && is_dirty(layer_tag(layer, key))) return nullptr;
    if (!last.has(key, context.now)) {
        last.database = InvalidOid;
        if (!memory::find(EntryKey(kLayerTraits[layer].kind, key), last.entry)) return nullptr;
        last.remember(key, context.now);
    }
    return judge_found(context, layer, key, last.entry) == Verdict::kHit ? &last.entry : nullptr;
}

LayersLocal collect_layers(LookupContext& context, std::string_view user_key) {
    LayersLocal layers;
    RowLocal row;
    const auto obtain = [&](core::LayerIndex layer, std::string_view key) {
        layers.layer[layer] = obtain_layer({context, row, layers, layer, key, user_key});
    };
    obtain(core::kUserLayer, user_key);
    const LayerLocal& user = layers.layer[core::kUserLayer];
    if (!user.found) return layers;
    if (user.pointer) obtain(core::kTenantLayer, *user.pointer);
    obtain(core::kApplicationLayer, {});
    return layers;
}

std::optional<LayersLocal> layers_in_memory(const LookupContext& context, std::string_view user_key) {
    LayersLocal layers;
    const auto copy = [&](core::LayerIndex layer, std::string_view key) {
        const std::optional<LayerLocal> found = layer_from_memory(context, layer, key);
        if (found) layers.layer[layer] = *found;
        return found.has_value();
    };
    if (!copy(core::kUserLayer, user_key)) return std::nullopt;
    const LayerLocal& user = layers.layer[core::kUserLayer];
    if (user.found && user.pointer && !copy(core::kTenantLayer, *user.pointer)) return std::nullopt;
    if (user.found && !copy(core::kApplicationLayer, {})) return std::nullopt;
    return layers;
}

void warm_layers(LookupContext& context, std::string_view user_key) {
    RowLocal row;
    const auto bring = [&](core::LayerIndex layer, std::string_view key) {
        std::optional<LayerLocal> value = layer_from_memory(context, layer, key);
        if (value) return value;
        value = layer_from_row(context, row, layer, key, user_key);
        if (value) store_layer(context, layer, key, *value);
        return value;
    };
    const std::optional<LayerLocal> user = bring(core::kUserLayer, user_key);
    if (user && user->pointer) bring(core::kTenantLayer, *user->pointer);
    if (user) bring(core::kApplicationLayer, {});
}

}  // namespace prompt_cache
