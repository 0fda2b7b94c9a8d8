// From the text of an expression over a row to the server's tree for it, with everything refused that such an
// expression must not be: subqueries, aggregates, window functions, sets, whole rows, system columns, and
// functions whose results nobody could notice to have changed.
#pragma once

#include "pg/row_expression.hpp"

extern "C" {
#include "nodes/nodeFuncs.h"
}

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

// Refuses functions that an expression cannot use. To be asked again of the planned tree: arguments that were
// left out and the bodies of inlined functions are only there.
void check_functions(Node* tree, Oid& stable_function);

// The expression before it was made text, as text that means the same under every search_path. fix_settings()
// must be in force.
const char* print_expression(Relation relation, const ExpressionTree& expression);

inline bool walk_expression(Node* node, bool (*walker)(Node*, void*), void* context) {
#if PG_VERSION_NUM >= 160000
    return expression_tree_walker(node, walker, context);
#else
    // Declared without parameters there. By way of void (*)(), which a compiler takes for "any function".
    auto* const any = reinterpret_cast<void (*)()>(walker);
    return expression_tree_walker(node, reinterpret_cast<bool (*)()>(any), context);
#endif
}

}  // namespace prompt_cache
