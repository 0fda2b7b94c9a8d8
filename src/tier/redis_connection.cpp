#include "tier/redis_connection.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <sys/socket.h>

#include <csignal>
#include <ctime>

#include "tier/redis_config.hpp"
#include "tier/redis_tls.hpp"

extern "C" {
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/timeout.h"
}

namespace prompt_cache::redis {

namespace {

// Unused for one to two of these, a connection is closed.
#ifdef PROMPT_CACHE_TEST
constexpr int kIdleMillis = 1000;
#else
constexpr int kIdleMillis = 60 * 1000;
#endif

struct ConnectionLocal {
    redisContext* context = nullptr;
    bool dirty = false;
    TimestampTz config = 0;  // the reload it was opened after
} connection_local;

// Seen by the handler of the idle timer.
volatile sig_atomic_t idle_socket_local = -1;
volatile sig_atomic_t used_local = false;
TimeoutId idle_timer_local = MAX_TIMEOUTS;
bool callbacks_local = false;

char failure_text_local[RedisShared::kErrorBytes];

// In a signal handler: the socket is shut down, and closed by the next exchange, which finds it at its end.
void close_if_idle() {
    if (idle_socket_local >= 0 && !used_local) shutdown(idle_socket_local, SHUT_RDWR);
    used_local = false;
}

void start_idle_timer() noexcept {
    enable_timeout_every(idle_timer_local, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kIdleMillis),
                         kIdleMillis);
}

// An error has ended an exchange, and every timer with it.
void at_transaction_event(XactEvent event, void*) {
    if (event != XACT_EVENT_ABORT) return;
    if (connection_local.dirty) close_connection();
    if (connection_local.context) start_idle_timer();
}

// Bytes from outside, as far as they are printable.
const char* printable(std::string_view bytes) noexcept {
    const std::size_t n = std::min(bytes.size(), sizeof(failure_text_local) - 1);
    for (std::size_t i = 0; i < n; i++)
        failure_text_local[i] = bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '?';
    failure_text_local[n] = '\0';
    return failure_text_local;
}

Failure failure(RedisCount kind, const char* text) noexcept {
    return {kind, false, printable(text)};
}

Failure too_late() noexcept {
    return failure(RedisCount::kTimeout, "no answer within redis_timeout");
}

// The command was refused, and another one may not be.
bool is_harmless(std::string_view error) noexcept {
    return error.starts_with("OOM ") || error.starts_with("READONLY ") || error.starts_with("WRONGTYPE ");
}

std::optional<Failure> check_context() noexcept {
    const redisContext& context = *connection_local.context;
    switch (context.err) {
        case 0:
            return std::nullopt;
        case REDIS_ERR_PROTOCOL:
        case REDIS_ERR_OOM:  // an array, which the reader has no memory for
            return failure(RedisCount::kProtocol, "a reply that no command here has");
        default:
            return failure(RedisCount::kClosed, context.errstr);
    }
}

// Until the socket is ready. A cancel request leaves from here.
bool wait_for(std::uint32_t events, std::int64_t deadline) {
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        const std::int64_t left = deadline - micros();
        if (left <= 0) return false;
        const int happened = WaitLatchOrSocket(
            MyLatch, static_cast<int>(events) | WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
            connection_local.context->fd, static_cast<long>((left + 999) / 1000), redis_wait_event());
        if (happened & WL_LATCH_SET) ResetLatch(MyLatch);
        if (happened & static_cast<int>(events)) return true;
    }
}

#if HIREDIS_MAJOR >= 1
void* refuse_array(const redisReadTask*, std::size_t) {
    return nullptr;
}
#else
void* refuse_array(const redisReadTask*, int) {
    return nullptr;
}
#endif

redisContext* start_connecting(const RedisConfig& config) noexcept {
    if (config.url.transport == core::RedisUrl::Transport::kUnix)
        return redisConnectUnixNonBlock(config.url.path);
    AddressText address;
    if (address_of(config.url.host, address).empty()) return nullptr;
    return redisConnectNonBlock(address.data(), config.url.port);
}

std::optional<Failure> begin_connecting(const RedisConfig& config) noexcept {
    if (!AcquireExternalFD()) return failure(RedisCount::kNoConnection, "too many open files");
    redisContext* context = start_connecting(config);
    if (!context) {
        ReleaseExternalFD();
        return failure(RedisCount::kNoConnection, "the host's name is not resolved yet");
    }
    connection_local = {context, true, config.loaded};
    // A program that this process starts (COPY … PROGRAM) does not inherit the connection.
    if (context->fd >= 0) fcntl(context->fd, F_SETFD, FD_CLOEXEC);
    if (context->err) return failure(RedisCount::kNoConnection, context->errstr);
    static redisReplyObjectFunctions functions;
    functions = *context->reader->fn;
    functions.createArray = refuse_array;
    context->reader->fn = &functions;
    idle_socket_local = context->fd;
    return std::nullopt;
}

std::optional<Failure> connected() noexcept {
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(connection_local.context->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0)
        return std::nullopt;
    return failure(RedisCount::kNoConnection, strerror(error));
}

void install_callbacks() {
    if (callbacks_local) return;
    callbacks_local = true;
    idle_timer_local = RegisterTimeout(USER_TIMEOUT, close_if_idle);
    RegisterXactCallback(at_transaction_event, nullptr);
}

// The reply, copied out of hiredis' memory and freed. Nothing while it is not whole.
std::optional<Failure> take_reply(Reply& reply, bool& whole) noexcept {
    redisContext* context = connection_local.context;
    void* raw = nullptr;
    if (redisGetReplyFromReader(context, &raw) != REDIS_OK) return check_context();
    whole = raw != nullptr;
    if (!whole) return std::nullopt;
    const auto* taken = static_cast<redisReply*>(raw);
    const std::string_view bytes{taken->str ? taken->str : "",
                                 taken->str ? static_cast<std::size_t>(taken->len) : 0};
    std::optional<Failure> failed;
    reply = {};
    switch (taken->type) {
        case REDIS_REPLY_NIL:
            break;
        case REDIS_REPLY_INTEGER:
            reply.kind = Reply::Kind::kInteger;
            reply.integer = taken->integer;
            break;
        case REDIS_REPLY_STRING:
        case REDIS_REPLY_STATUS: {
            reply.kind = taken->type == REDIS_REPLY_STRING ? Reply::Kind::kText : Reply::Kind::kStatus;
            auto* copy = static_cast<char*>(MemoryContextAllocExtended(CurrentMemoryContext, bytes.size() + 1,
                                                                       MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM));
            if (copy) {
                memcpy(copy, bytes.data(), bytes.size());
                reply.text = {copy, bytes.size()};
            } else {
                failed = failure(RedisCount::kProtocol, "no memory for a reply");
            }
            break;
        }
        case REDIS_REPLY_ERROR:
            failed = Failure{RedisCount::kError, is_harmless(bytes), printable(bytes)};
            break;
        default:
            failed = failure(RedisCount::kProtocol, "a reply that no command here has");
    }
    freeReplyObject(raw);
    return failed;
}

std::optional<Failure> send(std::span<const std::string_view> command, std::int64_t deadline) {
    redisContext* context = connection_local.context;
    constexpr std::size_t kMost = 80;
    const char* arguments[kMost];
    std::size_t lengths[kMost];
    const std::size_t count = std::min(command.size(), kMost);
    for (std::size_t i = 0; i < count; i++) {
        arguments[i] = command[i].data();
        lengths[i] = command[i].size();
    }
    if (redisAppendCommandArgv(context, static_cast<int>(count), arguments, lengths) != REDIS_OK)
        return check_context();
    for (;;) {
        int done = 0;
        if (redisBufferWrite(context, &done) != REDIS_OK) return check_context();
        if (done) return std::nullopt;
        if (!wait_for(WL_SOCKET_WRITEABLE, deadline)) return too_late();
    }
}

std::optional<Failure> receive(std::int64_t deadline, std::size_t longest, Reply& reply) {
    const redisReader& reader = *connection_local.context->reader;
    for (bool whole = false;;) {
        if (const auto failed = take_reply(reply, whole)) return failed;
        if (whole) {
            if (reader.pos >= reader.len) return std::nullopt;
            return failure(RedisCount::kProtocol, "two replies to one command");
        }
        if (reader.len > longest) return failure(RedisCount::kProtocol, "a reply longer than any value");
        if (!wait_for(WL_SOCKET_READABLE, deadline)) return too_late();
        if (redisBufferRead(connection_local.context) != REDIS_OK) return check_context();
    }
}

constexpr std::size_t kShortReply = 1024;
constexpr std::size_t kFraming = 1024;  // of a reply, around its bytes

std::optional<Failure> run(std::span<const std::string_view> command, std::int64_t deadline,
                           std::size_t longest, Reply& reply) {
    if (const auto failed = send(command, deadline)) return failed;
    return receive(deadline, longest + kFraming, reply);
}

// Password and database of the URL.
std::optional<Failure> introduce(const RedisConfig& config, std::int64_t deadline) {
    Reply reply;
    if (config.password[0] != '\0') {
        const std::string_view with_user[] = {"AUTH", config.user, config.password};
        const std::string_view alone[] = {"AUTH", config.password};
        const auto failed = config.user[0] != '\0' ? run(with_user, deadline, kShortReply, reply)
                                                   : run(alone, deadline, kShortReply, reply);
        if (failed) return failed;
    }
    if (config.url.database == 0) return std::nullopt;
    char number[16];
    snprintf(number, sizeof(number), "%u", config.url.database);
    const std::string_view select[] = {"SELECT", number};
    return run(select, deadline, kShortReply, reply);
}

std::optional<Failure> open(const RedisConfig& config, std::int64_t deadline) {
    install_callbacks();
    if (const auto failed = begin_connecting(config)) return failed;
    if (!wait_for(WL_SOCKET_WRITEABLE, deadline)) return too_late();
    if (const auto failed = connected()) return failed;
    if (config.url.transport == core::RedisUrl::Transport::kTls)
        if (const char* problem = begin_tls(connection_local.context, config.url.host,
                                            [&](std::uint32_t events) { return wait_for(events, deadline); }))
            return failure(RedisCount::kNoConnection, problem);
    if (const auto failed = introduce(config, deadline)) return failed;
    count(RedisCount::kConnected);
    start_idle_timer();
    return std::nullopt;
}

// Nobody has anything to say between two commands: what comes then is the end, or a reply too many.
bool is_quiet() noexcept {
    redisContext* context = connection_local.context;
    pollfd socket{context->fd, POLLIN, 0};
    if (poll(&socket, 1, 0) == 0) return true;
    return redisBufferRead(context) == REDIS_OK && context->reader->pos >= context->reader->len;
}

std::optional<Failure> run_clean(std::span<const std::string_view> command, std::int64_t deadline,
                                 std::size_t longest, Reply& reply) {
    const RedisConfig& config = redis_config();
    if (!config.on) return failure(RedisCount::kNoConnection, config.problem);
    if (connection_local.context &&
        (connection_local.dirty || connection_local.config != config.loaded || !is_quiet()))
        close_connection();
    connection_local.dirty = true;
    if (!connection_local.context)
        if (const auto failed = open(config, deadline)) return failed;
    return run(command, deadline, longest, reply);
}

std::uint64_t hash_of(const char* host) noexcept {
    return hash_bytes_extended(reinterpret_cast<const unsigned char*>(host), static_cast<int>(strlen(host)),
                               0) |
           1;
}

}  // namespace

std::int64_t micros() noexcept {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::int64_t>(time.tv_sec) * 1000000 + time.tv_nsec / 1000;
}

std::optional<Failure> exchange(std::span<const std::string_view> command, std::int64_t deadline,
                                std::size_t longest, Reply& reply) {
    used_local = true;
    const std::optional<Failure> failed = run_clean(command, deadline, longest, reply);
    if (failed)
        close_connection();
    else
        connection_local.dirty = false;
    return failed;
}

bool is_number(const char* host) noexcept {
    in6_addr parsed;
    return inet_pton(AF_INET, host, &parsed) == 1 || inet_pton(AF_INET6, host, &parsed) == 1;
}

std::string_view address_of(const char* host, AddressText& buffer) noexcept {
    buffer[0] = '\0';
    if (is_number(host)) {
        strlcpy(buffer.data(), host, buffer.size());
    } else {
        LWLockAcquire(redis_memory.lock, LW_SHARED);
        if (redis_memory.state->address_of == hash_of(host))
            strlcpy(buffer.data(), redis_memory.state->address, buffer.size());
        LWLockRelease(redis_memory.lock);
    }
    return buffer.data();
}

void set_address(const char* host, const char* address) noexcept {
    LWLockAcquire(redis_memory.lock, LW_EXCLUSIVE);
    strlcpy(redis_memory.state->address, address, RedisShared::kAddressBytes);
    redis_memory.state->address_of = *address ? hash_of(host) : 0;
    LWLockRelease(redis_memory.lock);
}

void close_connection() noexcept {
    connection_local.dirty = false;
    if (!connection_local.context) return;
    idle_socket_local = -1;
    if (idle_timer_local != MAX_TIMEOUTS) disable_timeout(idle_timer_local, false);
    redisFree(connection_local.context);
    connection_local.context = nullptr;
    ReleaseExternalFD();
}

}  // namespace prompt_cache::redis
