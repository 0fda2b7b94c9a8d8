#include "pg/attempt.hpp"

#include "pg/condition.hpp"

extern "C" {
#include "tcop/tcopprot.h"
}

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

namespace {

// Of the message and its like only code and condition are left; the server log gets the message.
void hide_text(ErrorData& error) {
    error.detail_log = error.message;
    error.message = const_cast<char*>(describe_code(error.sqlerrcode));
    error.detail = error.hint = error.context = error.internalquery = nullptr;
    // A function may set these too: RAISE ... USING TABLE = ...
    error.schema_name = error.table_name = error.column_name = error.datatype_name = error.constraint_name = nullptr;
    error.cursorpos = error.internalpos = 0;
}

const ErrorData* attempt_as(WorkFn call, void* work, PassesOnFn passes_on, bool hides_text) {
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    ErrorData* volatile failed = nullptr;
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
        if (hides_text) hide_text(*error);
        if (passes_on(error->sqlerrcode)) {
            if (hides_text) error->message = psprintf("prompt_cache cannot go on: %s", error->message);
            ReThrowError(error);
        }
        failed = error;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return failed;
}

}  // namespace

const ErrorData* attempt_call(WorkFn call, void* work, PassesOnFn passes_on) {
    return attempt_as(call, work, passes_on, false);
}

const ErrorData* attempt_quietly_call(WorkFn call, void* work, PassesOnFn passes_on) {
    const ErrorData* failed = nullptr;
    quietly([&] { failed = attempt_as(call, work, passes_on, true); });
    return failed;
}

// By where messages go, and not by client_min_messages: INFO passes that, and a function may set it. Whether an error
// goes to the client is decided where it is raised; one that is passed on must go there.
void quietly_call(WorkFn call, void* work) {
    const CommandDest before = whereToSendOutput;
    MemoryContext context = CurrentMemoryContext;
    PG_TRY();
    {
        whereToSendOutput = DestNone;
        call(work);
        whereToSendOutput = before;
    }
    PG_CATCH();
    {
        whereToSendOutput = before;
        MemoryContextSwitchTo(context);
        ErrorData* error = CopyErrorData();
        FlushErrorState();
        error->output_to_client = before == DestRemote;
        ReThrowError(error);
    }
    PG_END_TRY();
}

}  // namespace prompt_cache
