// A test module that writes when prompt_cache's own PRE_COMMIT callback has run already: preloaded before it,
// so that its callback comes after it. Executes the setting late_writer.statement once at the end of a
// transaction.
extern "C" {
#include "postgres.h"
#include "fmgr.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

PG_MODULE_MAGIC;
PGDLLEXPORT void _PG_init(void);
}

namespace {

char* statement = nullptr;
bool running = false;

void at_transaction_event(XactEvent event, void*) {
    if (event != XACT_EVENT_PRE_COMMIT || running || !statement || statement[0] == '\0') return;
    if (!TransactionIdIsValid(GetTopTransactionIdIfAny())) return;
    running = true;
    SPI_connect();
    PushActiveSnapshot(GetTransactionSnapshot());
    SPI_execute(statement, false, 0);
    PopActiveSnapshot();
    SPI_finish();
    running = false;
}

}  // namespace

void _PG_init(void) {
    DefineCustomStringVariable("late_writer.statement", "What to execute at the end of a transaction.",
                               nullptr, &statement, "", PGC_USERSET, 0, nullptr, nullptr, nullptr);
    RegisterXactCallback(at_transaction_event, nullptr);
}
