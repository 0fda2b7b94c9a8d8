// Work whose error is not the caller's.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

// Does the work in a subtransaction; false if it has raised an error, of which nothing is left then. Who
// cancels a statement means all of it: that goes through. In parallel mode, where there are no
// subtransactions, every error does.
template <typename Work>
bool without_error(Work work) {
    if (IsInParallelMode()) {
        work();
        return true;
    }
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    volatile bool done = false;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        work();
        ReleaseCurrentSubTransaction();
        done = true;
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        ErrorData* error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(context);
        CurrentResourceOwner = owner;
        if (error->sqlerrcode == ERRCODE_QUERY_CANCELED) ReThrowError(error);
        FreeErrorData(error);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return done;
}

}  // namespace prompt_cache
