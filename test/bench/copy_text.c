/*
 * What P5 measures against, as a module of its own:
 *   copy_text(bigint) -> text    copies one text that stays hot; the text is set by the last hold_text()
 *   hold_text(text) -> integer   its length
 *   take_text(text) -> integer   the length of a text that is really there. octet_length() of a stored text
 *                                reads only its header and would leave the value where it is.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_MODULE_MAGIC;

static text *held = NULL;

PG_FUNCTION_INFO_V1(hold_text);
Datum hold_text(PG_FUNCTION_ARGS)
{
    text *given = PG_GETARG_TEXT_PP(0);

    held = (text *) MemoryContextAlloc(TopMemoryContext, VARHDRSZ + VARSIZE_ANY_EXHDR(given));
    SET_VARSIZE(held, VARHDRSZ + VARSIZE_ANY_EXHDR(given));
    memcpy(VARDATA(held), VARDATA_ANY(given), VARSIZE_ANY_EXHDR(given));
    PG_RETURN_INT32(VARSIZE_ANY_EXHDR(held));
}

PG_FUNCTION_INFO_V1(copy_text);
Datum copy_text(PG_FUNCTION_ARGS)
{
    text *copy;

    if (held == NULL)
        ereport(ERROR, (errmsg("call hold_text() first")));
    copy = (text *) palloc(VARSIZE(held));
    memcpy(copy, held, VARSIZE(held));
    PG_RETURN_TEXT_P(copy);
}

PG_FUNCTION_INFO_V1(take_text);
Datum take_text(PG_FUNCTION_ARGS)
{
    PG_RETURN_INT32(VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)));
}
