// The worker of the Redis tier: resolves the host's name, probes while the breaker is open, and tells
// processes outside what was changed.
//
// It is connected to no database, so it is in nobody's way, and works in recovery too, where it only resolves
// and probes. Lookups do not depend on it, except that an open breaker stays open without it.
//
// The feed. A writer leaves its marks before its transaction ends (tier/feed.hpp). The worker unlinks the
// values of those tags at once, which is housekeeping, waits until the transaction has ended, and publishes
// the tags on the channel of the database:
//
//     {"epoch": "9f86d081884c7d65", "seq": 17, "tags": ["40d06fa1b0c5b6a0", …]}
//
// Messages of one epoch are numbered without a gap; a second without changes makes one without tags. Whoever
// listens forgets everything when the epoch or a number is not the next one, or when nothing comes for a few
// seconds. So whatever the worker cannot vouch for is a gap: messages that could not be sent, marks that were
// overwritten, transactions of before the epoch (prepared ones, say) that end in it.
#include "cache/lookup.hpp"
#include "cache/shared.hpp"
#include "pg/postgres.hpp"
#include "pg/settings.hpp"
#include "process.hpp"
#include "redis_worker.hpp"
#include "tier/feed.hpp"
#include "tier/redis.hpp"
#include "tier/redis_connection.hpp"

#include <netdb.h>
#include <poll.h>
#include <unistd.h>

extern "C" {
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/procarray.h"
}

namespace prompt_cache {

namespace {

constexpr std::int64_t kSecond = 1000000;
constexpr std::int64_t kProbe = kSecond;         // between two probes while the breaker is open
constexpr std::int64_t kResolve = 30 * kSecond;  // between two looks at a name
constexpr std::int64_t kBeat = kSecond;          // the longest silence of a channel
constexpr long kLookMillis = 20;                 // while a transaction with marks has not ended
constexpr std::uint32_t kTagsAtOnce = 256;       // in one message

bool attempt(std::span<const std::string_view> command, redis::Reply& reply) {
    constexpr std::size_t kLongest = 4096;
    const std::int64_t deadline = redis::micros() + static_cast<std::int64_t>(settings::redis_timeout) * 1000;
    return redis::attempt(command, deadline, kLongest, reply);
}

bool attempt(std::initializer_list<std::string_view> command, redis::Reply& reply) {
    return attempt({command.begin(), command.size()}, reply);
}

// ---- where Redis is

std::int64_t resolved_local = 0;

// Does somebody listen there? A name may have addresses of several families, and a server one.
bool accepts(const addrinfo& place) {
    const int file =
        socket(place.ai_family, place.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, place.ai_protocol);
    if (file < 0) return false;
    int error = connect(file, place.ai_addr, place.ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        pollfd wait{file, POLLOUT, 0};
        socklen_t size = sizeof(error);
        if (poll(&wait, 1, settings::redis_timeout) == 1)
            getsockopt(file, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    close(file);
    return error == 0;
}

// A name that cannot be resolved now keeps the address it had.
void resolve(bool at_once) {
    const core::RedisUrl& url = redis_config().url;
    if (url.transport == core::RedisUrl::Transport::kUnix || redis::is_number(url.host)) return;
    const std::int64_t now = redis::micros();
    redis::AddressText known;
    const bool is_known = !redis::address_of(url.host, known).empty();
    if (resolved_local != 0 && now - resolved_local < (at_once || !is_known ? kProbe : kResolve)) return;
    resolved_local = now;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    char port[8];
    snprintf(port, sizeof(port), "%u", url.port);
    addrinfo* found = nullptr;
    if (getaddrinfo(url.host, port, &hints, &found) != 0 || !found) return;
    const addrinfo* chosen = found;
    for (const addrinfo* each = found; each; each = each->ai_next)
        if (accepts(*each)) {
            chosen = each;
            break;
        }
    redis::AddressText address;
    if (getnameinfo(chosen->ai_addr, chosen->ai_addrlen, address.data(), address.size(), nullptr, 0,
                    NI_NUMERICHOST) == 0)
        redis::set_address(url.host, address.data());
    freeaddrinfo(found);
}

// ---- the breaker

std::int64_t probed_local = 0;

// As a lookup would ask: a Redis that only answers PING, one of a cluster say, is of no use.
void probe() {
    core::BreakerShared& breaker = redis_memory.state->breaker;
    if (breaker.closed() || redis::micros() - probed_local < kProbe) return;
    probed_local = redis::micros();
    FeedScopeShared scopes[FeedShared::kScopes];
    redis::Reply reply;
    bool good = false;
    if (feed::scopes(scopes) > 0) {
        ScopeText scope;
        redis::NameText name;
        good = attempt(
            {"GET", redis::name_of(print_scope(scopes[0].database, scopes[0].incarnation, scope), 0, name)},
            reply);
    } else {
        good = attempt({"PING"}, reply);
    }
    if (breaker.probed(good)) ereport(LOG, (errmsg("prompt_cache: Redis is used again")));
}

// ---- the feed

struct ChannelLocal {
    FeedScopeShared scope;
    std::uint64_t seq;
    std::int64_t last;  // when a message went out
};

// All of the worker alone.
struct FeedLocal {
    static constexpr std::uint32_t kPending = 4 * FeedShared::kMarks;

    bool running = false;
    std::uint64_t epoch = 0;
    std::uint64_t taken = 0;     // marks of the ring
    std::int64_t last_mark = 0;  // when some were found
    std::uint32_t pending_count = 0;
    std::uint32_t channel_count = 0;
    std::uint32_t older_count = 0;
    TransactionId* older = nullptr;    // running when the epoch began: their marks may be missing
    FeedMarkShared pending[kPending];  // of transactions that have not ended
    ChannelLocal channels[FeedShared::kScopes];
};
FeedLocal* feed_local = nullptr;

bool has_ended(std::uint64_t xid) {
    return !TransactionIdIsInProgress(static_cast<TransactionId>(xid));
}

void end_feed() {
    if (!feed_local || !feed_local->running) return;
    feed::end();
    feed_local->running = false;
}

// Marks are wanted first, then it is looked who is running: whose marks are missing is among them, or has
// ended.
void begin_epoch() {
    FeedLocal& local = *feed_local;
    if (local.older) pfree(local.older);
    memset(static_cast<void*>(&local), 0, sizeof(local));
    if (!pg_strong_random(&local.epoch, sizeof(local.epoch))) return;
    local.running = true;
    local.taken = feed::begin(MyLatch);
    MemoryContext context = CurrentMemoryContext;
    StartTransactionCommand();
    Snapshot snapshot = GetTransactionSnapshot();
    local.older = static_cast<TransactionId*>(
        MemoryContextAlloc(TopMemoryContext, (snapshot->xcnt + 1) * sizeof(TransactionId)));
    std::copy(snapshot->xip, snapshot->xip + snapshot->xcnt, local.older);
    local.older_count = snapshot->xcnt;
    CommitTransactionCommand();
    MemoryContextSwitchTo(context);
}

void begin_feed() {
    if (!feed_local)
        feed_local = static_cast<FeedLocal*>(MemoryContextAllocZero(TopMemoryContext, sizeof(FeedLocal)));
    if (!feed_local->running) begin_epoch();
}

// Nothing for a database that has no channel (there are more than kScopes of them).
ChannelLocal* channel_of(const FeedScopeShared& scope) {
    FeedLocal& local = *feed_local;
    for (std::uint32_t i = 0; i < local.channel_count; i++)
        if (local.channels[i].scope.database == scope.database &&
            local.channels[i].scope.incarnation == scope.incarnation)
            return &local.channels[i];
    if (local.channel_count == FeedShared::kScopes) return nullptr;
    // Numbers begin anywhere, so that a channel that was given up does not go on as if nothing had been
    // missed.
    local.channels[local.channel_count] = {scope, pg_prng_uint64_range(&pg_global_prng_state, 1, 1ull << 48),
                                           0};
    return &local.channels[local.channel_count++];
}

// Nobody who listens can make up for what is missing: a number is left out.
void leave_gap() {
    for (std::uint32_t i = 0; i < feed_local->channel_count; i++) {
        feed_local->channels[i].seq++;
        feed_local->channels[i].last = 0;  // and soon a message shows it
    }
}

// A number is used up whether or not the message goes out.
void publish(ChannelLocal& channel, std::span<const std::uint64_t> tags) {
    channel.seq++;
    if (!redis::is_on()) return;
    StringInfoData message;
    initStringInfo(&message);
    appendStringInfo(&message, "{\"epoch\": \"%016llx\", \"seq\": %llu, \"tags\": [",
                     static_cast<unsigned long long>(feed_local->epoch),
                     static_cast<unsigned long long>(channel.seq));
    for (std::size_t i = 0; i < tags.size(); i++)
        appendStringInfo(&message, "%s\"%016llx\"", i == 0 ? "" : ", ",
                         static_cast<unsigned long long>(tags[i]));
    appendStringInfoString(&message, "]}");
    ScopeText scope;
    const std::string_view printed = print_scope(channel.scope.database, channel.scope.incarnation, scope);
    char name[128];
    snprintf(name, sizeof(name), "prompt_cache:{%.*s}:invalidate", static_cast<int>(printed.size()),
             printed.data());
    redis::Reply reply;
    attempt({"PUBLISH", name, {message.data, static_cast<std::size_t>(message.len)}}, reply);
    channel.last = redis::micros();
}

// The values of these tags are of no use to anybody soon. Those who still see the old rows build, or use
// their memory.
void unlink(std::span<const FeedMarkShared> marks) {
    constexpr std::size_t kAtOnce = 64;
    for (std::size_t done = 0; done < marks.size() && redis::is_on();) {
        redis::NameText names[kAtOnce];
        std::string_view command[kAtOnce + 1] = {"UNLINK"};
        std::size_t count = 1;
        for (; done < marks.size() && count <= kAtOnce; done++) {
            const FeedMarkShared& mark = marks[done];
            if (mark.tag == Tag(TagKind::kAll).hash) continue;  // no value is named by it
            ScopeText scope;
            command[count] = redis::name_of(print_scope(mark.scope.database, mark.scope.incarnation, scope),
                                            mark.tag, names[count - 1]);
            count++;
        }
        redis::Reply reply;
        if (count > 1) attempt({command, count}, reply);
    }
}

// False where marks are lost, overwritten in the ring or too many to be kept: their transactions may not have
// ended yet, so that only another epoch makes up for them.
bool take_marks() {
    FeedLocal& local = *feed_local;
    bool lost = false;
    for (std::uint32_t count = 1; count > 0 && !lost;) {
        if (local.pending_count + FeedShared::kMarks > FeedLocal::kPending) return false;
        FeedMarkShared* marks = local.pending + local.pending_count;
        count = feed::take(local.taken, marks, FeedShared::kMarks, lost);
        for (std::uint32_t i = 0; i < count; i++) channel_of(marks[i].scope);
        unlink({marks, count});
        local.pending_count += count;
        if (count > 0) local.last_mark = redis::micros();
    }
    return !lost;
}

void publish_ended() {
    FeedLocal& local = *feed_local;
    // Sorted out once, so that all marks of a transaction go the same way.
    std::uint64_t ended = 0;
    bool last_ended = false;
    std::uint32_t kept = 0;
    std::uint64_t tags[FeedShared::kScopes][kTagsAtOnce];
    std::uint32_t counts[FeedShared::kScopes] = {};
    const auto flush = [&](std::uint32_t channel) {
        publish(local.channels[channel], {tags[channel], counts[channel]});
        counts[channel] = 0;
    };
    for (std::uint32_t i = 0; i < local.pending_count; i++) {
        const FeedMarkShared mark = local.pending[i];
        if (mark.xid != ended) {
            ended = mark.xid;
            last_ended = has_ended(mark.xid);
        }
        if (!last_ended) {
            local.pending[kept++] = mark;
            continue;
        }
        const ChannelLocal* found = channel_of(mark.scope);
        if (!found) continue;
        const auto channel = static_cast<std::uint32_t>(found - local.channels);
        tags[channel][counts[channel]++] = mark.tag;
        if (counts[channel] == kTagsAtOnce) flush(channel);
    }
    local.pending_count = kept;
    for (std::uint32_t channel = 0; channel < local.channel_count; channel++)
        if (counts[channel] > 0) flush(channel);
}

// A transaction of before the epoch may have changed anything.
void watch_older() {
    FeedLocal& local = *feed_local;
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < local.older_count; i++)
        if (!has_ended(local.older[i])) local.older[kept++] = local.older[i];
    if (kept != local.older_count) leave_gap();
    local.older_count = kept;
}

void beat() {
    FeedScopeShared known[FeedShared::kScopes];
    const std::uint32_t count = feed::scopes(known);
    for (std::uint32_t i = 0; i < count; i++) {
        ChannelLocal* channel = channel_of(known[i]);
        if (channel && redis::micros() - channel->last >= kBeat) publish(*channel, {});
    }
    // Databases that were dropped.
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < feed_local->channel_count; i++) {
        const FeedScopeShared& scope = feed_local->channels[i].scope;
        if (std::any_of(known, known + count, [&](const FeedScopeShared& other) {
                return other.database == scope.database && other.incarnation == scope.incarnation;
            }))
            feed_local->channels[kept++] = feed_local->channels[i];
    }
    feed_local->channel_count = kept;
}

void run_feed() {
    if (RecoveryInProgress()) return;
    begin_feed();
    if (feed_local->running && !take_marks()) begin_epoch();
    if (!feed_local->running) return;
    watch_older();
    publish_ended();
    beat();
}

// ---- the process

void worker_exits(int, Datum) {
    feed::end();
    LWLockAcquire(redis_memory.lock, LW_EXCLUSIVE);
    redis_memory.state->worker = 0;
    LWLockRelease(redis_memory.lock);
}

// How long nothing can happen of which nobody tells.
long nap() {
    if (!redis_config().on) return 60 * 1000;
    const bool soon = feed_local && feed_local->running && feed_local->pending_count > 0 &&
                      redis::micros() - feed_local->last_mark < kSecond;
    return soon ? kLookMillis : 10 * kLookMillis;
}

}  // namespace

PC_WORKER(pc_redis_worker_main) {
    begin_process();
    before_shmem_exit(worker_exits, static_cast<Datum>(0));
    LWLockAcquire(redis_memory.lock, LW_EXCLUSIVE);
    redis_memory.state->worker = MyProcPid;
    LWLockRelease(redis_memory.lock);
    MemoryContext scratch =
        AllocSetContextCreate(TopMemoryContext, "prompt_cache redis worker", ALLOCSET_SMALL_SIZES);
    for (;;) {
        MemoryContextReset(scratch);
        MemoryContextSwitchTo(scratch);
        if (ShutdownRequestPending) proc_exit(1);  // by hand: the postmaster starts another one
        CHECK_FOR_INTERRUPTS();
        if (reload_if_asked()) probed_local = resolved_local = 0;
        if (redis_config().on) {
            resolve(!redis_memory.state->breaker.closed());
            probe();
            run_feed();
        } else {
            end_feed();
            redis::close_connection();
        }
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, nap(), redis_wait_event());
        ResetLatch(MyLatch);
    }
}

void register_redis_worker() {
    register_process("prompt_cache redis", "pc_redis_worker_main", BgWorkerStart_ConsistentState);
}

}  // namespace prompt_cache
