// Which columns does a name or an expression that attach() was given mean?
#include "exports.hpp"
#include "pg/expression_objects.hpp"

namespace prompt_cache {

// Does not wait: housekeeping asks too.
PC_FUNCTION(pc_expression_columns) {
    const Oid relation = PG_GETARG_OID(0);
    ExpressionObjects objects;
    if (!add_expression_objects(relation, text_to_cstring(PG_GETARG_TEXT_PP(1)), false, objects)) PG_RETURN_NULL();
    Datum names[MaxHeapAttributeNumber];
    int count = 0;
    for (int i = bms_next_member(objects.columns, -1); i >= 0; i = bms_next_member(objects.columns, i))
        if (const char* name = get_attname(relation, static_cast<AttrNumber>(i), true)) names[count++] = CStringGetTextDatum(name);
    PG_RETURN_ARRAYTYPE_P(construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
}

}  // namespace prompt_cache
