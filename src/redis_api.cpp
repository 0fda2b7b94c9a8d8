// What SQL calls about Redis: its state, and what a process outside needs to keep values of its own.
#include "cache/layer.hpp"
#include "cache/lookup.hpp"
#include "exports.hpp"
#include "tier/feed.hpp"
#include "tier/redis.hpp"
#include "tier/redis_shared.hpp"

namespace prompt_cache {

namespace {

// Somebody here listens: the worker must know of the channel.
std::optional<std::int64_t> note_listener() {
    const std::optional<std::int64_t> number = incarnation();
    if (number && redis_memory) feed::note_scope(*number);
    return number;
}

text* channel_name() {
    const std::optional<std::int64_t> number = note_listener();
    if (!number) return nullptr;
    ScopeText scope;
    const std::string_view printed = print_scope(MyDatabaseId, *number, scope);
    return cstring_to_text(
        psprintf("prompt_cache:{%.*s}:invalidate", static_cast<int>(printed.size()), printed.data()));
}

Datum tag_text(Tag tag) {
    return PointerGetDatum(cstring_to_text(psprintf("%016llx", static_cast<unsigned long long>(tag.hash))));
}

// Names of the counts, in their order.
constexpr const char* kCountNames[] = {"found",    "missing",   "stored",   "connections", "no_connection",
                                       "timeout",  "closed",    "protocol", "error",       "form",
                                       "version",  "other_key", "broken",   "other_entry", "expired",
                                       "encoding", "stale"};
static_assert(std::size(kCountNames) == kRedisCounts);

}  // namespace

// (name, count): everything that has happened with Redis since the server started.
PC_FUNCTION(pc_redis_counts) {
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    for (unsigned i = 0; redis_memory && i < kRedisCounts; i++) {
        const std::uint64_t count = redis_memory.state->counts[i].load(std::memory_order_relaxed);
        Datum values[] = {PointerGetDatum(cstring_to_text(kCountNames[i])),
                          Int64GetDatum(static_cast<std::int64_t>(count))};
        bool nulls[std::size(values)] = {};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return static_cast<Datum>(0);
}

// (state, problem, breaker, failures_in_row, latency_us, last_error, encrypted, worker)
PC_FUNCTION(pc_redis_status) {
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    if (!redis_memory) return static_cast<Datum>(0);
    const RedisConfig& config = redis_config();
    RedisShared& state = *redis_memory.state;
    char last_error[RedisShared::kErrorBytes];
    LWLockAcquire(redis_memory.lock, LW_SHARED);
    strlcpy(last_error, state.last_error, sizeof(last_error));
    const bool worker = state.worker != 0;
    LWLockRelease(redis_memory.lock);
    const bool closed = state.breaker.closed();
    const auto words = [](const char* words) { return PointerGetDatum(cstring_to_text(words)); };
    Datum values[] = {
        words(!config.on ? "off"
              : closed   ? "on"
                         : "down"),
        words(config.problem),
        words(closed ? "closed" : "open"),
        Int32GetDatum(static_cast<std::int32_t>(state.breaker.in_a_row.load(std::memory_order_relaxed))),
        Int32GetDatum(static_cast<std::int32_t>(state.latency_micros.load(std::memory_order_relaxed))),
        words(last_error),
        BoolGetDatum(config.key.present),
        BoolGetDatum(worker)};
    bool nulls[std::size(values)] = {};
    nulls[1] = *config.problem == '\0';
    nulls[5] = *last_error == '\0';
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    return static_cast<Datum>(0);
}

PC_FUNCTION(pc_invalidation_channel) {
    text* name = channel_name();
    if (!name) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(name);
}

// (prompt, tags): a prompt and what it hangs on, under one snapshot.
PC_FUNCTION(pc_get_with_tags) {
    TupleDesc descriptor = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "prompt_cache: get_with_tags must return a row");
    note_listener();
    LookupContext context = open_lookup();
    KeyBuffer buffer;
    const std::string_view key = canonical_key(context.attachment->user_key(),
                                               {.number = {}, .text = view_of(PG_GETARG_TEXT_PP(0))}, buffer);
    const LayersLocal layers = exact_layers(context, key);
    const LayerLocal& user = layers.layer[core::kUserLayer];
    Datum tags[4] = {tag_text(Tag(TagKind::kAll)), tag_text(Tag(TagKind::kUser, key)),
                     tag_text(Tag(TagKind::kApplication))};
    int count = 3;
    if (user.pointer) tags[count++] = tag_text(Tag(TagKind::kTenant, *user.pointer));
    Datum values[] = {user.found ? PointerGetDatum(compose(layers)) : static_cast<Datum>(0),
                      PointerGetDatum(construct_array(tags, count, TEXTOID, -1, false, TYPALIGN_INT))};
    bool nulls[] = {!user.found, false};
    close_lookup(context);
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls));
}

}  // namespace prompt_cache
