// Which of the triggers that call our function are ours to obey?
//
// Anybody who may create triggers on a table can name our trigger function, with any arguments. A trigger counts only
// if the table, or a partition ancestor of it, stands in `attachment` or `watch` with just these arguments. All
// others do nothing.
//
// The answer is kept in this backend for each trigger. It holds
//   - until the server rebuilds its description of the table (relcache callback): arguments and ancestors are part of
//     it,
//   - and as long as no transaction has marked `*` or the tag of the namespaces' definitions, or to the end of the
//     transaction that asked. Both suffice, since whoever registers a table locks it (ShareRowExclusiveLock) before
//     and until the commit: while a writer holds the table, nobody else can register it,
//   - and until this transaction itself changes a registration.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache::registry {

enum class Registered {
    kNo,
    kYes,
    kUnknown,  // our tables are locked exclusively (DROP EXTENSION, say), or have other names
};

struct Registration {
    Registered registered;
    Oid source;  // kYes: the table that was registered, the trigger's own or a partition ancestor of it
};

Registration registration_of(Relation relation, const Trigger& trigger);

// This transaction has changed `attachment` or `watch`, or has rolled such a change back.
void forget() noexcept;

}  // namespace prompt_cache::registry
