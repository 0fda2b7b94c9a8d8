// Values that an application puts: they wait in memory of the backend for the commit, and are then stored for
// everybody.
//
// Two questions are asked of a value, and both again at the commit.
//
//   others' changes   Every id in the slots of its tags must be complete for the snapshot of the statement that puts, and
//                     for the lease: whoever was running when it was given may be in what the application read, or may
//                     not. The own id is left out, and the value carries the generation after its mark.
//   own changes       Every one of its tags must have come before the reading (core/own_order.hpp), so that a transaction
//                     may put what it has written (write-through). A change that follows the put makes it void.
//
// Where the namespace has a builder the caller is not believed: the builder is run under the statement's snapshot, and the
// value put only if it is that, byte for byte. It then hangs on what that build hangs on, and a lease adds nothing to
// trust. Nor does it matter what the caller has read before. Rejected: to let only the builder's owner put, since
// write-through is for the application that changes the rows.
//
// A transaction that rolls back, or is prepared, drops its puts; one that rolls back to a savepoint those after it.
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
