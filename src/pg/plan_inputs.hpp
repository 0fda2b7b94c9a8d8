// The functions in a plan's expressions that read more than their arguments (hidden_inputs.hpp). Among them are
// those by which the server makes text of a value: of a regclass that is the name of a table, also inside of an
// array, a row or json.
//
// What is in no expression is not seen: what sorts, hashes and samples by physical order, and what a function's
// own code calls.
#pragma once

#include "pg/hidden_inputs.hpp"

extern "C" {
#include "nodes/plannodes.h"
}

namespace prompt_cache {

// By its OID, or by SQL's keyword for it.
struct CalledFunction {
    Oid function = InvalidOid;
    SQLValueFunctionOp keyword = SVFOP_CURRENT_DATE;  // where there is no OID
};

const char* name_of(CalledFunction called);

using CalledFunctionVisit = void (*)(void* context, CalledFunction called, HiddenInput input);

void visit_hidden_inputs(const PlannedStmt& query, CalledFunctionVisit visit, void* context);

// Is the plan nothing but one expression's value? PL/pgSQL runs such a plan by itself, without the executor.
inline bool is_simple_expression(const PlannedStmt& query) noexcept {
    return query.commandType == CMD_SELECT && query.planTree && IsA(query.planTree, Result) &&
           !query.planTree->lefttree && query.subplans == NIL && list_length(query.planTree->targetlist) == 1;
}

}  // namespace prompt_cache
