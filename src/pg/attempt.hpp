// Doing something that may fail for this one thing, without giving up what was done for others before: a
// subtransaction.
//
// Errors that are not of the thing are passed on, since they would meet the next one too: cancelled, shut
// down, no disk or memory, a lock that cannot be had, a conflict of transactions.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

using WorkFn = void (*)(void* work);
const char* attempt_call(WorkFn call, void* work);

// Null if `work` ended well. Else what went wrong, in the current memory context, and nothing of the work is
// left.
template <typename Work>
const char* attempt(Work&& work) {
    return attempt_call([](void* it) { (*static_cast<std::remove_reference_t<Work>*>(it))(); }, &work);
}

}  // namespace prompt_cache
