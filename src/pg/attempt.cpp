#include "pg/attempt.hpp"

namespace prompt_cache {

bool meets_the_next_too(int code) noexcept {
    switch (ERRCODE_TO_CATEGORY(code)) {
        case ERRCODE_TRANSACTION_ROLLBACK:
        case ERRCODE_INSUFFICIENT_RESOURCES:
        case ERRCODE_OPERATOR_INTERVENTION:
        case ERRCODE_SYSTEM_ERROR:
            return true;
        default:
            return code == ERRCODE_LOCK_NOT_AVAILABLE;
    }
}

bool is_of_the_moment(int code) noexcept {
    switch (ERRCODE_TO_CATEGORY(code)) {
        case ERRCODE_CONNECTION_EXCEPTION:
        case ERRCODE_INVALID_TRANSACTION_STATE:
        case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
        case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
        case ERRCODE_INTERNAL_ERROR:
            return true;
        default:
            return meets_the_next_too(code);
    }
}

const char* attempt_call(WorkFn call, void* work, PassesOnFn passes_on) {
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    const char* volatile problem = nullptr;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        call(work);
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        ErrorData* error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(context);
        CurrentResourceOwner = owner;
        if (passes_on(error->sqlerrcode)) ReThrowError(error);
        problem = error->message;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return problem;
}

}  // namespace prompt_cache
