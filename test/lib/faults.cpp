// Faults on purpose, as functions that SQL can call: what a run with assertions or sanitizers must notice (stage "faults").
#include <cstdlib>

extern "C" {
#include "postgres.h"
#include "fmgr.h"
#include "utils/memutils.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(fault_assertion);
PG_FUNCTION_INFO_V1(fault_overrun);
PG_FUNCTION_INFO_V1(fault_heap);
PG_FUNCTION_INFO_V1(fault_stack);
PG_FUNCTION_INFO_V1(fault_undefined);

static volatile int eight = 8;

Datum fault_assertion(PG_FUNCTION_ARGS) {
    Assert(eight == 9);
    PG_RETURN_VOID();
}

// A byte beyond what was asked for, which is noticed at the end of the statement.
Datum fault_overrun(PG_FUNCTION_ARGS) {
    static_cast<volatile char*>(MemoryContextAlloc(TopMemoryContext, 13))[eight + 5] = 1;
    PG_RETURN_VOID();
}

// The compiler cannot tell how much lies behind it.
static volatile char* volatile bytes;

Datum fault_heap(PG_FUNCTION_ARGS) {
    bytes = static_cast<char*>(malloc(8));
    bytes[eight] = 1;
    PG_RETURN_VOID();
}

Datum fault_stack(PG_FUNCTION_ARGS) {
    volatile char place[8] = {};
    bytes = place;
    bytes[eight] = 1;
    PG_RETURN_VOID();
}

Datum fault_undefined(PG_FUNCTION_ARGS) { PG_RETURN_INT32(1 << (eight + 24 + eight)); }
}
