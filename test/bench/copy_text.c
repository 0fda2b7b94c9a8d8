/*
 * What P5 measures against, as a module of its own:
 *   hold_text(text, integer) -> integer   keeps so many copies of a text in the backend; its length
 *   copy_text(bigint) -> text             copies number n of them: of one, it stays hot; of many, it is cold
 *   take_text(text) -> integer            the length of a text that is really there. octet_length() of a stored
 *                                         text reads only its header and would leave the value where it is.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_MODULE_MAGIC;

static char *held = NULL;
static Size held_size;
static int64 held_count;

PG_FUNCTION_INFO_V1(hold_text);
Datum hold_text(PG_FUNCTION_ARGS)
{
    text *given = PG_GETARG_TEXT_PP(0);
    int64 number;

    held_size = VARHDRSZ + VARSIZE_ANY_EXHDR(given);
    held_count = PG_GETARG_INT32(1);
    held = MemoryContextAllocHuge(TopMemoryContext, MAXALIGN(held_size) * held_count);
    for (number = 0; number < held_count; number++)
    {
        text *copy = (text *) (held + MAXALIGN(held_size) * number);

        SET_VARSIZE(copy, held_size);
        memcpy(VARDATA(copy), VARDATA_ANY(given), VARSIZE_ANY_EXHDR(given));
    }
    PG_RETURN_INT32(VARSIZE_ANY_EXHDR(given));
}

PG_FUNCTION_INFO_V1(copy_text);
Datum copy_text(PG_FUNCTION_ARGS)
{
    uint64 number = PG_GETARG_INT64(0);
    text *copy;

    if (held == NULL)
        ereport(ERROR, (errmsg("call hold_text() first")));
    copy = (text *) palloc(held_size);
    memcpy(copy, held + MAXALIGN(held_size) * (held_count == 1 ? 0 : number % held_count), held_size);
    PG_RETURN_TEXT_P(copy);
}

PG_FUNCTION_INFO_V1(take_text);
Datum take_text(PG_FUNCTION_ARGS)
{
    PG_RETURN_INT32(VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)));
}
