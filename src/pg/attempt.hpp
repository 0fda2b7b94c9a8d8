// Doing something that may fail for this one thing, without giving up what was done before: a subtransaction.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

// Which errors are passed on all the same, by SQLSTATE.
using PassesOnFn = bool (*)(int code) noexcept;

// Those that are not of the thing and would meet the next one too: cancelled, shut down, no disk or memory, a
// lock that cannot be had, a conflict of transactions.
bool meets_the_next_too(int code) noexcept;

// Those that say nothing of the data: whether they come hangs on the moment, the session or the server.
bool is_of_the_moment(int code) noexcept;

// Who cancels a statement means all of it.
inline bool is_cancel(int code) noexcept {
    return code == ERRCODE_QUERY_CANCELED;
}

using WorkFn = void (*)(void* work);
const char* attempt_call(WorkFn call, void* work, PassesOnFn passes_on);

// Null if `work` ended well. Else what went wrong, in the current memory context, and nothing of the work is
// left. Not in parallel mode, where there are no subtransactions.
template <typename Work>
const char* attempt(Work&& work, PassesOnFn passes_on = meets_the_next_too) {
    return attempt_call([](void* it) { (*static_cast<std::remove_reference_t<Work>*>(it))(); }, &work, passes_on);
}

// Did `work` end well? Its error is not the caller's, unless the statement is cancelled; in parallel mode every
// error is.
template <typename Work>
bool without_error(Work&& work) {
    if (!IsInParallelMode()) return attempt(work, is_cancel) == nullptr;
    work();
    return true;
}

}  // namespace prompt_cache
