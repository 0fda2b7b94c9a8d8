// An SQL expression over the columns of one row, given as text: settings->'ui'->>'system', or just a column's
// name. A name that is a column wins.
//
// When it is named by a user, check_row_expression() says whether it can be used and how to store it: as text
// that means the same in every session, every name and every cast written out. Oids would not survive a dump.
// Later find_row_expression() prepares that text for the relation on which a trigger has fired - a partition
// has columns of other numbers than its root - and keeps it for the backend, until one of the server's caches
// says that the relation, a function or a type has changed.
//
// Values are made as the owner of the table that was registered (a partition may have another owner), as a
// security-restricted operation under fixed settings: nothing of the writer's gets into them. Only text that the
// owner has registered may come here: functions in it run with his rights. One made of functions or types of a user's
// is not planned, so that preparing it runs none of them. And an error in the expression is no error of the writer's: evaluation runs
// in a subtransaction, and what it cannot tell is "not known", on which a caller invalidates too much. A
// plain column of a key's type needs none of that and costs next to nothing. Cancellation goes through.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

// What a value may depend on: the row alone, or also what settings say, which are fixed here. STABLE
// functions of PostgreSQL that look at more (clock, session, catalogs) are never allowed.
enum class Steadiness { kImmutable, kStable };

struct CheckedExpression {
    const char* text;     // to be stored: a column's name, or the expression in full
    Oid type;             // of its values, before they are made text
    AttrNumber column;    // 0 if it is more than a column
    bool immutable;       // by the row alone
    Oid stable_function;  // one of the user's own, which may read tables that nobody watches; or none
    Bitmapset* columns;   // that it reads
};

// Reads names by the caller's search_path. ERROR with a hint if there is no such expression over a row of the
// relation, or if it depends on more than it may. Lies in the current memory context.
CheckedExpression check_row_expression(Relation relation, const char* text, Steadiness least);

struct RowText {
    bool known = false;
    std::optional<std::string_view> value;  // in the current memory context, or in the row itself
};

struct RowExpression;

// Nothing if the text is no expression over a row of this relation (any more). Holds until the next call. `source` is
// the table for which it was registered: the relation itself, or a partition ancestor.
const RowExpression* find_row_expression(Relation relation, Oid source, const char* text);

bool is_immutable(const RowExpression& expression) noexcept;

// Is it made of functions or types of the user's? These may be replaced by a transaction that commits between
// an evaluation by a writer and the writer's own commit: what the writer then leaves behind, readers who see
// the new function may look for elsewhere.
bool is_replaceable(const RowExpression& expression) noexcept;

// The expression's value in a row of the relation it was prepared for.
RowText evaluate(const RowExpression& expression, Relation relation, Oid source, HeapTuple row);

// Has a column that the expression reads other bytes?
bool touched(const RowExpression& expression, Relation relation, HeapTuple before, HeapTuple after);

// Does it matter that the row has changed? No if all columns that are read have the same bytes; no if the
// expression is immutable and not replaceable, and has the same value; else yes.
bool changed(const RowExpression& expression, Relation relation, Oid source, HeapTuple before, HeapTuple after);

// Has a column the same bytes? A value that was not touched keeps its pointer to the TOAST table, so nothing
// is ever detoasted to find out.
bool same_bytes(HeapTuple before, HeapTuple after, TupleDesc descriptor, int column);

}  // namespace prompt_cache
