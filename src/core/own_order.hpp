// Which own changes a value that is put has seen.
//
// The value is published when its transaction commits, for everybody. So it must be what a snapshot after the commit
// would read: it must have seen every change that the transaction makes of its tags. Changes have an order, the command
// id, and so have snapshots: one of command c sees the changes of commands before c.
//
//   put without a lease     the value was read under the snapshot of the statement that puts it
//   put with a lease that   read by statements that began after lease(), or by the statement that puts it: what the
//   its transaction took    snapshots of both see it has seen
//   put with another's      read before or after any own change, here or over another connection: it has seen none
//   lease
//
// A change after the put voids the put (cache/put.cpp). Refused are also values that would have been right: an own change
// between a lease and its put may have been read or not, and nobody can tell.
#pragma once

#include <algorithm>
#include <optional>

#include "core/rules.hpp"
#include "core/tag_set.hpp"

namespace prompt_cache::core {

struct LeaseOrder {
    bool own;         // taken by the transaction that puts
    Command command;  // of the snapshot under which it was taken
};

// The value has seen own changes of commands before this one.
constexpr Command seen_before(Command statement, const std::optional<LeaseOrder>& lease) noexcept {
    if (!lease) return statement;
    return lease->own ? std::min(statement, lease->command) : 0;
}

// Has the transaction changed the tag in a way that such a value has not seen?
template <std::size_t kMax>
bool unseen_change(const BoundedTagSet<kMax>& changed, std::uint64_t tag, Command seen) noexcept {
    return applies(Rule::kOwnOrder) && changed.changed_since(tag, seen);
}

}  // namespace prompt_cache::core
