// Values that an application puts: they wait in memory of the backend for the commit, and are then stored for
// everybody.
//
//   with a lease   true as of the lease: whoever was running when it was given may be in what the application
//                  read, or may not; so every id in the slots of its tags must be complete for the lease
//   without        true as of the statement that puts
//   own changes    the transaction that changed the tags itself puts what it has written (write-through): its own
//                  mark is left out, and the value carries the generation after it
//
// A change that follows a put in its transaction makes it void. A transaction that rolls back, or is prepared, drops its puts; one that rolls back to a savepoint those after
// it.
#pragma once

#include "cache/value.hpp"

namespace prompt_cache {

struct NewPut {
    std::string_view key;
    std::optional<std::string_view> value;  // nothing: NULL, a remembered absence
    std::optional<std::int64_t> lifetime;   // microseconds, which no hit puts off; nothing: the namespace's
    std::span<const Tag> tags;
    std::optional<std::int64_t> lease;
};

void install_puts();

// The current transaction changes the tag: what it has put before of it is not true any more.
void drop_puts_on(Tag tag) noexcept;

// Would it be stored now? If so it will be looked at again at commit.
bool put_value(ValueContext& context, const NewPut& put);

}  // namespace prompt_cache
