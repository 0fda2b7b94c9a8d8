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
const ErrorData* attempt_call(WorkFn call, void* work, PassesOnFn passes_on);
const ErrorData* attempt_quietly_call(WorkFn call, void* work, PassesOnFn passes_on);
void quietly_call(WorkFn call, void* work);

template <typename Work>
void call_work(void* work) {
    (*static_cast<std::remove_reference_t<Work>*>(work))();
}

// Null if `work` ended well. Else what went wrong, in the current memory context, and nothing of the work is
// left. Not in parallel mode, where there are no subtransactions.
template <typename Work>
const ErrorData* attempt(Work&& work, PassesOnFn passes_on = meets_the_next_too) {
    return attempt_call(call_work<Work>, &work, passes_on);
}

// The same for callers who may not read what `work` reads. No NOTICE or WARNING of it reaches the client. The message of
// its error, passed on or not, is code and condition; what it was stands in `detail_log`, for the server log alone.
template <typename Work>
const ErrorData* attempt_quietly(Work&& work, PassesOnFn passes_on = meets_the_next_too) {
    return attempt_quietly_call(call_work<Work>, &work, passes_on);
}

// The first half of that: errors pass as they are.
template <typename Work>
void quietly(Work&& work) {
    quietly_call(call_work<Work>, &work);
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
