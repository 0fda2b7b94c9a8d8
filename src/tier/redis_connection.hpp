// One connection to Redis a backend, and one command at a time on it.
//
//   closed ── first exchange ──▶ open ── any failure, reload, idling ──▶ closed
//
// The connection is dirty from before the first byte of a command is sent until its whole reply is parsed,
// and what is dirty is closed, never used again: a reply that comes late can belong to no other command. The
// calls of hiredis do not block; waiting is done on the server's latch, so that a cancel request ends it like
// any other wait, by longjmp. One absolute deadline covers connecting, sending and receiving: hiredis' own
// limit is one a recv(), which a peer that drips bytes never meets.
//
// Replies are hostile. The reader is given no arrays, since no command here has one, and so neither nesting
// nor a count of elements to believe; a reply longer than asked for is refused while it comes in.
#pragma once

#include "pg/postgres.hpp"
#include "tier/redis_shared.hpp"

namespace prompt_cache::redis {

struct Reply {
    enum class Kind { kNothing, kText, kStatus, kInteger } kind = Kind::kNothing;
    std::string_view text;  // in the current memory context
    std::int64_t integer = 0;
};

// How an exchange failed.
struct Failure {
    RedisCount kind = RedisCount::kNoConnection;
    bool harmless = false;  // Redis refused this one command, and is well
    const char* text = "";  // printable ASCII; until the next exchange
};

// Microseconds of a clock that nobody can set.
std::int64_t micros() noexcept;

// Sends a command and takes its reply, of at most `longest` bytes, until `deadline`. Nothing on success.
// Connects first where it must. A cancel request leaves by an error and closes the connection.
std::optional<Failure> exchange(std::span<const std::string_view> command, std::int64_t deadline,
                                std::size_t longest, Reply& reply);

// The address to connect to, as a number: the host's own, or what the worker has made of its name. Empty:
// not known yet.
using AddressText = std::array<char, RedisShared::kAddressBytes>;
std::string_view address_of(const char* host, AddressText& buffer) noexcept;
bool is_number(const char* host) noexcept;
void set_address(const char* host, const char* address) noexcept;

void close_connection() noexcept;

}  // namespace prompt_cache::redis
