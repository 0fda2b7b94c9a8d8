// The way of a lookup, top to bottom: open (which tiers may serve this snapshot?), hit (all three layers from
// memory, one copy), else collect (layer by layer: memory, table, build and store).
#include "cache/lookup.hpp"

#include "cache/building.hpp"
#include "cache/layer.hpp"
#include "cache/memory.hpp"
#include "cache/saving.hpp"
#include "cache/value.hpp"
#include "cache/writer.hpp"
#include "core/composition.hpp"
#include "pg/pause.hpp"
#include "pg/settings.hpp"

namespace prompt_cache {

namespace {

void say_once_that_nothing_is_cached() {
    static bool said = false;
    if (said) return;
    said = true;
    ereport(NOTICE, (errmsg("prompt_cache is not preloaded: every prompt is built"),
                     errhint("Add prompt_cache to shared_preload_libraries and restart the server.")));
}

// The entries of a user's prompt, all in memory and valid; null for a layer that the prompt does not have.
struct FoundLayers {
    FoundEntry user;
    const FoundEntry* entry[core::kLayers] = {nullptr, nullptr, &user};
    bool absent = false;  // there is no such user
};

bool find_layers(const LookupContext& context, const EntryKey& user_key, FoundLayers& found) {
    // The application's entry needs no key: it is judged while the user's bucket is on its way.
    const FoundEntry* application = find_valid_shared(context, core::kApplicationLayer, {});
    const FoundEntry& user = found.user;
    if (!find_valid(context, core::kUserLayer, user_key, found.user)) return false;
    memory::prefetch_value(user);
    found.absent = !user.has(kFound);
    if (found.absent) return true;
    if (user.has(kHasPointer)) {
        char tenant_key[kMaxKeyLength];
        if (!memory::read_pointer(user, tenant_key) || !memory::still_there(user)) return false;
        found.entry[core::kTenantLayer] =
            find_valid_shared(context, core::kTenantLayer, {tenant_key, user.header.pointer_length});
        if (!found.entry[core::kTenantLayer]) return false;
    }
    found.entry[core::kApplicationLayer] = application;
    return application != nullptr;
}

// A prompt that was composed anew is to be saved, by a primary and where the table may be trusted later.
void note_for_saving(const LookupContext& context, const FoundLayers& found) {
    if (found.absent || context.judge.by != Judge::By::kMarks || !context.attachment->durable()) return;
    saving::note(found.user, saving::composition_of(&found.user, found.entry[core::kTenantLayer],
                                                    found.entry[core::kApplicationLayer]));
}

// Memory of a large answer, of its output form and of its message is malloc's own and free again when the row
// has been sent. glibc gives free memory at the heap's end back to the kernel beyond 128 KB, to ask for it
// again in the next call: two system calls and the page faults, a third of the rate at 32 KB. It keeps twice
// the largest block that it was ever given back, so one is given back before the first such answer.
void keep_heap_for(std::size_t answer) {
    constexpr std::size_t kMost = 16 << 20;
    static std::size_t kept = 8 << 10;
    if (answer <= kept) return;
    kept = std::bit_ceil(answer);
    if (void* block = palloc_extended(std::min(4 * kept, kMost), MCXT_ALLOC_NO_OOM)) pfree(block);
}

// All layers in memory and valid: one allocation, one copy. Nothing if any is not, or changed under the copy.
text* hit(const LookupContext& context, const EntryKey& user_key, bool& absent) {
    FoundLayers found;
    if (!find_layers(context, user_key, found)) return nullptr;
    absent = found.absent;
    const auto length = [&found](core::LayerIndex layer) -> std::size_t {
        return found.entry[layer] && !found.absent ? found.entry[layer]->header.value_length : 0;
    };

    PC_PAUSE("lookup|copy");
    const core::Composition composition(
        {length(core::kApplicationLayer), length(core::kTenantLayer), length(core::kUserLayer)});
    if (VARHDRSZ + composition.size() > MaxAllocSize) return nullptr;  // for the slow way to complain about
    keep_heap_for(composition.size());
    text* prompt = static_cast<text*>(palloc_extended(VARHDRSZ + composition.size(), MCXT_ALLOC_NO_OOM));
    if (!prompt) return nullptr;
    SET_VARSIZE(prompt, VARHDRSZ + composition.size());
    composition.write_frame(VARDATA(prompt));
    bool whole = true;
    for (unsigned layer = 0; layer < core::kLayers; layer++) {
        if (!found.entry[layer]) continue;
        const FoundEntry& entry = *found.entry[layer];
        if (composition.length(layer) > 0)
            whole = whole && memory::read_value(entry, VARDATA(prompt) + composition.offset(layer));
        whole = whole && memory::still_there(entry);
    }
    if (!whole) {
        pfree(prompt);
        return nullptr;
    }
    for (unsigned layer = 0; layer < core::kLayers; layer++)
        if (found.entry[layer]) memory::count_use(*found.entry[layer]);
    note_for_saving(context, found);
    return prompt;
}

// The user's bucket and slot follow from the key alone: they are fetched while the wiring is judged. A number
// is written alike in every type of key that takes one.
std::optional<EntryKey> prefetch_user(const KeyInput& input, KeyBuffer& buffer) noexcept {
    if (!shared || !input.number) return std::nullopt;
    const std::string_view text{buffer.bytes,
                                static_cast<std::size_t>(pg_lltoa(*input.number, buffer.bytes))};
    const EntryKey key(EntryKind::kUser, text);
    memory::prefetch(key);
    __builtin_prefetch(&slot_of(Tag(TagKind::kUser, text)));
    return key;
}

void count_call(const LookupContext& context, Source source, bool bypassed) noexcept {
    if (!shared) return;
    using core::Counter;
    Counter counter = Counter::kHitsMemory;
    if (bypassed || context.bypass != Bypass::kNone)
        counter = Counter::kBypasses;
    else if (source == Source::kBuilt)
        counter = Counter::kBuiltCalls;
    else if (source == Source::kDatabase)
        counter = Counter::kHitsDatabase;
    else if (source == Source::kRedis)
        counter = Counter::kHitsRedis;
    count(counter);
    if (take_hit_behind() && counter == Counter::kHitsMemory) count(Counter::kHitsBehind);
}

void log_lookup(const LookupContext& context, std::string_view key, Source source, std::int64_t micros) {
    const bool bypassed = context.bypass != Bypass::kNone;
    ereport(LOG, (errmsg("prompt_cache: user \"%.*s\" from %s in %lld us%s%s", static_cast<int>(key.size()),
                         key.data(), name_of(source), static_cast<long long>(micros),
                         bypassed ? ", since " : "", bypassed ? describe(context.bypass) : ""),
                  errhidestmt(true)));
}

std::int64_t microseconds() {
    instr_time now;
    INSTR_TIME_SET_CURRENT(now);
    return static_cast<std::int64_t>(INSTR_TIME_GET_MICROSEC(now));
}

}  // namespace

const char* name_of(Source source) noexcept {
    switch (source) {
        case Source::kMemory:
            return "memory";
        case Source::kRedis:
            return "redis";
        case Source::kDatabase:
            return "database";
        case Source::kBuilt:
            return "built";
    }
    return "";
}

LookupContext open_lookup() {
    refuse_nested_lookup();
    LookupContext context;
    take_hit_behind();  // of a lookup that an error ended
    context.pushed = lend_snapshot(context.judge);
    context.around = building::begin_lookup();

    if (context.bypass == Bypass::kSerializable && !has_own_ddl()) {
        // It bypasses the entries, a hit on which takes no SIREAD lock; the wiring may be judged all the
        // same.
        Judge wiring = context.judge;
        wiring.by = Judge::By::kMarks;
        context.attachment = &attachment_under(wiring);
    } else {
        context.attachment = &attachment_under(context.judge);
    }
    if (context.bypass == Bypass::kNone &&
        own_ddl_concerns(context.attachment->sources(), context.attachment->objects())) {
        context.bypass = Bypass::kOwnDdl;
        context.judge.by = Judge::By::kNothing;
        context.attachment = &attachment_under(context.judge);
    }
    building::note_lookup(context.around, context.judge.snapshot, context.bypass);
    if (context.bypass == Bypass::kNotPreloaded) say_once_that_nothing_is_cached();
    context.attachment->require_usable();
    context.use_memory =
        context.bypass == Bypass::kNone && settings::memory && context.attachment->dependency.has_value();
    if (context.use_memory) {
        context.now = memory::now();
        saving::note_database();
    }
    return context;
}

bool may_use_stamps(const LookupContext& context) noexcept {
    const Attachment& wiring = *context.attachment;
    if (!wiring.sound() || !wiring.durable() || !wiring.dependency) return false;
    return context.judge.by == Judge::By::kStamps ||
           (context.judge.by == Judge::By::kMarks && sees_all_ended(Wide::kAll, context.judge.view));
}

bool may_use_database(const LookupContext& context) noexcept {
    return settings::database && may_use_stamps(context);
}

void close_lookup(LookupContext& context) {
    building::end_lookup(context.around);
    if (context.pushed) PopActiveSnapshot();
}

PromptAnswer get_or_build(const KeyInput& input) {
    const std::int64_t began = settings::log_lookups ? microseconds() : 0;
    KeyBuffer buffer;
    const std::optional<EntryKey> early = prefetch_user(input, buffer);
    LookupContext context = open_lookup();
    const std::string_view key = canonical_key(context.attachment->user_key(), input, buffer);

    PromptAnswer answer;
    bool absent = false;
    bool bypassed = false;
    if (context.use_memory && !context.around)
        answer.prompt = hit(context, early ? *early : EntryKey(EntryKind::kUser, key), absent);
    if (!answer.prompt) {
        const LayersLocal layers = exact_layers(context, key);
        answer.source = layers.source;
        bypassed = layers.bypassed;
        absent = !layers.layer[core::kUserLayer].found;
        if (!absent) answer.prompt = compose(layers);
        FoundLayers found;
        if (context.use_memory && !bypassed && find_layers(context, EntryKey(EntryKind::kUser, key), found))
            note_for_saving(context, found);
    }
    if (absent) answer.prompt = nullptr;
    count_call(context, answer.source, bypassed);
    if (settings::log_lookups) log_lookup(context, key, answer.source, microseconds() - began);
    close_lookup(context);
    return answer;
}

LayersLocal exact_layers(LookupContext& context, std::string_view user_key) {
    const bool uncached = context.around && context.around->uncached;
    const LayersLocal layers = uncached ? build_layers(context, user_key) : collect_layers(context, user_key);
    inherit_layers(context, layers, user_key);
    return layers;
}

LayersLocal build_layers(const LookupContext& context, std::string_view user_key) {
    LayersLocal layers;
    const auto build = [&](core::LayerIndex layer, std::string_view key) {
        layers.layer[layer] = build_layer(*context.attachment, layer, key);
    };
    build(core::kUserLayer, user_key);
    const LayerLocal& user = layers.layer[core::kUserLayer];
    if (!user.found) return layers;
    if (user.pointer) build(core::kTenantLayer, *user.pointer);
    build(core::kApplicationLayer, {});
    return layers;
}

text* build_prompt(const KeyInput& input) {
    LookupContext context = open_lookup();
    KeyBuffer buffer;
    const std::string_view key = canonical_key(context.attachment->user_key(), input, buffer);
    const LayersLocal layers = build_layers(context, key);
    inherit_layers(context, layers, key);
    text* prompt = layers.layer[core::kUserLayer].found ? compose(layers) : nullptr;
    close_lookup(context);
    return prompt;
}

core::Composition LayersLocal::composition() const noexcept {
    return core::Composition({layer[core::kApplicationLayer].text.size(),
                              layer[core::kTenantLayer].text.size(), layer[core::kUserLayer].text.size()});
}

text* compose(const LayersLocal& layers) {
    const core::Composition composition = layers.composition();
    text* prompt = static_cast<text*>(palloc(VARHDRSZ + composition.size()));
    SET_VARSIZE(prompt, VARHDRSZ + composition.size());
    composition.write_frame(VARDATA(prompt));
    for (unsigned layer = 0; layer < core::kLayers; layer++) {
        const std::string_view text = layers.layer[layer].text;
        std::copy(text.begin(), text.end(), VARDATA(prompt) + composition.offset(layer));
    }
    return prompt;
}

}  // namespace prompt_cache
