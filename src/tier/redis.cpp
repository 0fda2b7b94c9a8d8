#include "tier/redis.hpp"

#include "pg/settings.hpp"
#include "tier/feed.hpp"
#include "tier/redis_connection.hpp"

extern "C" {
#include "common/pg_lzcompress.h"
}

namespace prompt_cache {

RedisMemory redis_memory;

namespace redis {

using core::Envelope;
using core::EnvelopeFault;
using core::Packing;

namespace {

constexpr std::size_t kPackFrom = 2048;  // smaller values are not worth it
constexpr std::int64_t kSecond = 1000000;
// Clocks of servers differ and jump. Redis ends values by itself; this ends those that it forgot to.
constexpr std::int64_t kClockSlack = 2 * 3600 * kSecond;

std::size_t largest_value() noexcept {
    return static_cast<std::size_t>(settings::max_value_size) * 1024;
}

std::int64_t unix_micros() noexcept {
    return GetCurrentTimestamp() +
           static_cast<std::int64_t>(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * kSecond;
}

// What a seal covers besides the bytes: whose cache, and which entry.
struct ContextText {
    char bytes[sizeof(ScopeText) + Envelope::kMaxSpace + Envelope::kMaxKey + 2];
    std::size_t size = 0;

    void append(std::string_view text) noexcept {
        std::copy(text.begin(), text.end(), bytes + size);
        size += text.size();
    }
    ContextText(std::string_view scope, const EntryName& name) noexcept {
        for (const std::string_view text : {scope, name.space}) {
            append(text);
            append({"\0", 1});
        }
        append(name.key);
    }
    std::string_view view() const noexcept { return {bytes, size}; }
};

// Gives up an authentic value after all. Always nothing, so that it can be returned.
std::nullopt_t refuse(RedisCount why) noexcept {
    count(why);
    return std::nullopt;
}

RedisCount count_of(EnvelopeFault fault) noexcept {
    return fault == EnvelopeFault::kVersion ? RedisCount::kVersion : RedisCount::kForm;
}

// The value as it was before it was packed; in the current memory context where that takes room.
std::optional<std::string_view> unpack(const Envelope& envelope) {
    if (envelope.packing == Packing::kPlain) return envelope.stored;
    char* text = static_cast<char*>(palloc_extended(envelope.raw_length + 1, MCXT_ALLOC_NO_OOM));
    if (!text ||
        pglz_decompress(envelope.stored.data(), static_cast<int>(envelope.stored.size()), text,
                        static_cast<int>(envelope.raw_length), true) != static_cast<int>(envelope.raw_length))
        return std::nullopt;
    return std::string_view{text, envelope.raw_length};
}

bool is_text(std::string_view bytes) {
    return pg_verify_mbstr(GetDatabaseEncoding(), bytes.data(), static_cast<int>(bytes.size()), true);
}

// From the bytes of somebody else to a value of this entry.
std::optional<Candidate> open(std::string_view scope, const EntryName& name, std::span<char> bytes) {
    const std::string_view view{bytes.data(), bytes.size()};
    core::EnvelopeSeal seal;
    if (const EnvelopeFault fault = core::read_header(view, seal); fault != EnvelopeFault::kNone)
        return refuse(count_of(fault));
    switch (open_envelope(redis_config().key, seal, ContextText(scope, name).view(), bytes)) {
        case SealFault::kNone:
            break;
        case SealFault::kOtherKey:
            return refuse(RedisCount::kOtherKey);
        case SealFault::kBroken:
            return refuse(RedisCount::kBroken);
    }
    auto* tags = static_cast<core::EnvelopeTags*>(palloc(sizeof(core::EnvelopeTags)));
    Envelope envelope;
    if (core::read_body(view, largest_value(), *tags, envelope) != EnvelopeFault::kNone)
        return refuse(RedisCount::kForm);
    if (envelope.space != name.space || envelope.key != name.key) return refuse(RedisCount::kOtherEntry);
    const std::int64_t now = unix_micros();
    if (envelope.expires < now - kClockSlack || envelope.created > now + kClockSlack)
        return refuse(RedisCount::kExpired);
    const std::optional<std::string_view> text = unpack(envelope);
    if (!text) return refuse(RedisCount::kForm);
    if (!is_text(*text) || !is_text(envelope.pointer)) return refuse(RedisCount::kEncoding);
    count(RedisCount::kFound);
    return Candidate{{envelope.flags, envelope.pointer, *text}, envelope.tags, std::max<std::int64_t>(envelope.expires - now, 0)};
}

// This database's scope, if there is one and an entry may have this name.
std::string_view scope_for(const EntryName& name, ScopeText& buffer) {
    if (name.key.size() > Envelope::kMaxKey || name.space.size() > Envelope::kMaxSpace) return {};
    const std::optional<std::int64_t> number = incarnation();
    if (!number) return {};
    feed::note_scope(*number);
    return print_scope(MyDatabaseId, *number, buffer);
}

bool may_try(const Patience& patience) noexcept {
    return !patience.spent && is_on();
}

// Within what is left of the patience.
bool attempt_with(Patience& patience, std::span<const std::string_view> command, std::size_t longest,
                  Reply& reply) {
    if (patience.deadline == 0)
        patience.deadline = micros() + static_cast<std::int64_t>(settings::redis_timeout) * 1000;
    const bool good = micros() < patience.deadline && attempt(command, patience.deadline, longest, reply);
    patience.spent = !good;
    return good;
}

void note_latency(std::int64_t took) noexcept {
    std::atomic<std::uint32_t>& latency = redis_memory.state->latency_micros;
    const std::int64_t before = latency.load(std::memory_order_relaxed);
    latency.store(static_cast<std::uint32_t>(before == 0 ? took : before + (took - before) / 8),
                  std::memory_order_relaxed);
}

// Of an error reply health() shows the code alone, as WRONGTYPE: the rest may quote the command, with the value in it.
std::size_t shown_length(const Failure& failed) noexcept {
    if (failed.kind != RedisCount::kError) return RedisShared::kErrorBytes - 1;
    return std::min<std::size_t>(strspn(failed.text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 16);
}

void note_failure(const Failure& failed) {
    count(failed.kind);
    LWLockAcquire(redis_memory.lock, LW_EXCLUSIVE);
    const std::size_t shown = shown_length(failed);
    char* last_error = redis_memory.state->last_error;
    const bool is_new =
        failed.kind == RedisCount::kError && std::string_view(last_error) != std::string_view(failed.text, shown);
    strlcpy(last_error, failed.text, shown + 1);
    LWLockRelease(redis_memory.lock);
    if (is_new)
        ereport(LOG_SERVER_ONLY, (errmsg("prompt_cache: Redis answered: %s", failed.text), errhidestmt(true),
                                  errhidecontext(true)));
    if (failed.harmless || !redis_memory.state->breaker.failed()) return;
    ereport(LOG_SERVER_ONLY, (errmsg("prompt_cache: Redis is left alone after %u failures in a row: %s",
                                     core::BreakerShared::kThreshold, failed.text),
                              errhidestmt(true), errhidecontext(true)));
}

}  // namespace

bool is_on() noexcept {
    return redis_memory && redis_memory.state->breaker.closed() && redis_config().on;
}

void count_stale() noexcept {
    count(RedisCount::kStale);
}

std::string_view name_of(std::string_view scope, std::uint64_t tag, NameText& buffer) noexcept {
    std::array<char, kHiddenNameBytes> hidden;
    const std::string_view last = hide_name(redis_config().key, tag, hidden);
    const int length =
        snprintf(buffer.data(), buffer.size(), "prompt_cache:{%.*s}:%.*s", static_cast<int>(scope.size()),
                 scope.data(), static_cast<int>(last.size()), last.data());
    return {buffer.data(), static_cast<std::size_t>(length)};
}

bool attempt(std::span<const std::string_view> command, std::int64_t deadline, std::size_t longest,
             Reply& reply) {
    const std::int64_t began = micros();
    const std::optional<Failure> failed = exchange(command, deadline, longest, reply);
    if (failed) {
        note_failure(*failed);
    } else {
        note_latency(micros() - began);
        redis_memory.state->breaker.succeeded();
    }
    return !failed;
}

std::optional<Candidate> load(Patience& patience, const EntryName& name) {
    if (!may_try(patience)) return std::nullopt;
    ScopeText scope_buffer;
    const std::string_view scope = scope_for(name, scope_buffer);
    if (scope.empty()) return std::nullopt;
    NameText name_buffer;
    const std::string_view get[] = {"GET", name_of(scope, name.own.hash, name_buffer)};
    Reply reply;
    constexpr std::size_t kAround = 16 * 1024;  // keys, tags and framing
    if (!attempt_with(patience, get, largest_value() + kAround, reply)) return std::nullopt;
    if (reply.kind == Reply::Kind::kNothing) return refuse(RedisCount::kMissing);
    if (reply.kind != Reply::Kind::kText) {
        close_connection();  // an answer to something else
        return refuse(RedisCount::kProtocol);
    }
    // The reply is a copy of our own, in which it may be opened.
    return open(scope, name, {const_cast<char*>(reply.text.data()), reply.text.size()});
}

void save(Patience& patience, const EntryName& name, std::span<const core::StampedTag> tags,
          const Value& value, std::int64_t ttl) {
    if (!may_try(patience) || value.text.size() > largest_value() || tags.size() > Envelope::kMaxTags ||
        value.pointer.size() > Envelope::kMaxKey)
        return;
    ScopeText scope_buffer;
    const std::string_view scope = scope_for(name, scope_buffer);
    if (scope.empty()) return;
    if (ttl == 0) ttl = settings::redis_ttl;

    Envelope envelope;
    envelope.created = unix_micros();
    envelope.expires = envelope.created + ttl * kSecond;
    envelope.raw_length = static_cast<std::uint32_t>(value.text.size());
    envelope.flags = value.flags;
    envelope.space = name.space;
    envelope.key = name.key;
    envelope.pointer = value.pointer;
    envelope.stored = value.text;
    envelope.tags = tags;
    if (value.text.size() >= kPackFrom) {
        const auto raw_length = static_cast<int>(value.text.size());
        char* packed = static_cast<char*>(palloc(PGLZ_MAX_OUTPUT(raw_length)));
        // The strategy refuses what would not save a quarter.
        const int length = pglz_compress(value.text.data(), raw_length, packed, PGLZ_strategy_default);
        if (length >= 0) {
            envelope.packing = Packing::kPglz;
            envelope.stored = {packed, static_cast<std::size_t>(length)};
        }
    }
    const std::size_t size = core::envelope_size(envelope);
    char* bytes = static_cast<char*>(palloc(size));
    const SealKey& key = redis_config().key;
    core::write_envelope(envelope, seal_of(key), bytes);
    if (!seal_envelope(key, ContextText(scope, name).view(), {bytes, size})) return;

    NameText name_buffer;
    char seconds[24];
    snprintf(seconds, sizeof(seconds), "%lld", static_cast<long long>(ttl));
    const std::string_view set[] = {
        "SET", name_of(scope, name.own.hash, name_buffer), {bytes, size}, "EX", seconds};
    Reply reply;
    constexpr std::size_t kShortReply = 1024;
    if (!attempt_with(patience, set, kShortReply, reply)) return;
    if (reply.kind == Reply::Kind::kStatus)
        count(RedisCount::kStored);
    else
        close_connection();
}

}  // namespace redis
}  // namespace prompt_cache
