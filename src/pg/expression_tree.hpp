// From the text of an expression over a row to the server's tree for it, with everything refused that such an
// expression must not be: subqueries, aggregates, window functions, sets, whole rows, system columns, and
// functions whose results nobody could notice to have changed.
#pragma once

#include "pg/row_expression.hpp"

namespace prompt_cache {

struct ExpressionTree {
    Node* tree;           // of type text; columns are those of range table entry 1
    Oid type;             // before it was made text
    AttrNumber column;    // if it is nothing but a column
    Bitmapset* columns;   // that are read, by their numbers
    Oid stable_function;  // a user's own
};

// Names are read by the search_path that is in force. ERROR with a hint where it cannot be.
ExpressionTree analyse_expression(Relation relation, const char* text);

// The expression before it was made text, as text that means the same under every search_path. fix_settings()
// must be in force.
const char* print_expression(Relation relation, const ExpressionTree& expression);

}  // namespace prompt_cache
