#include "pg/plan_inputs.hpp"

#include "pg/expression_tree.hpp"

extern "C" {
#include "nodes/parsenodes.h"
#include "utils/regproc.h"
#include "utils/typcache.h"
}

namespace prompt_cache {

namespace {

struct WalkLocal {
    CalledFunctionVisit visit;
    void* context;
    bool prints_records = false;  // of columns that the expression does not name

    void found(Oid function, HiddenInput input) {
        if (input != HiddenInput::kNone) visit(context, {.function = function}, input);
    }
    void found(SQLValueFunctionOp keyword) { visit(context, {.keyword = keyword}, hidden_input_of(keyword)); }
};

// Values of the type are made text, or made of text.
void note_text(WalkLocal& walk, Oid type, bool of_text = false) {
    check_stack_depth();
    HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
    if (!HeapTupleIsValid(tuple)) return;
    const FormData_pg_type form = *reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple));
    ReleaseSysCache(tuple);
    if (IsTrueArrayType(&form)) return note_text(walk, form.typelem, of_text);
    switch (form.typtype) {
        case TYPTYPE_DOMAIN:
            return note_text(walk, form.typbasetype, of_text);
        case TYPTYPE_RANGE:
            return note_text(walk, get_range_subtype(type), of_text);
        case TYPTYPE_MULTIRANGE:
            return note_text(walk, get_multirange_range(type), of_text);
        case TYPTYPE_COMPOSITE: {
            const TupleDesc row = lookup_rowtype_tupdesc_noerror(type, -1, true);
            if (!row) return;
            for (int i = 0; i < row->natts; i++)
                if (!TupleDescAttr(row, i)->attisdropped) note_text(walk, TupleDescAttr(row, i)->atttypid, of_text);
            ReleaseTupleDesc(row);
            return;
        }
        default:
            walk.prints_records |= type == RECORDOID;
            const Oid function = of_text ? form.typinput : form.typoutput;
            walk.found(function, inputs_of(function).hidden);
    }
}

void note_text_of(WalkLocal& walk, Node* expression) {
    if (IsA(expression, TargetEntry))
        expression = reinterpret_cast<Node*>(reinterpret_cast<TargetEntry*>(expression)->expr);
    if (!IsA(expression, RowExpr)) return note_text(walk, exprType(expression));
    ListCell* cell;
    foreach (cell, reinterpret_cast<RowExpr*>(expression)->args) note_text_of(walk, static_cast<Node*>(lfirst(cell)));
}

void note_text_of(WalkLocal& walk, const List* expressions) {
    ListCell* cell;
    foreach (cell, expressions) note_text_of(walk, static_cast<Node*>(lfirst(cell)));
}

void note_call(WalkLocal& walk, Oid function, const List* arguments) {
    const FunctionInputs inputs = inputs_of(function);
    if (inputs.prints) note_text_of(walk, arguments);
    const bool of_setting = function == F_CURRENT_SETTING_TEXT || function == F_CURRENT_SETTING_TEXT_BOOL;
    const auto* name = of_setting ? static_cast<const Node*>(linitial(arguments)) : nullptr;
    if (name && IsA(name, Const) && !reinterpret_cast<const Const*>(name)->constisnull) {
        const char* setting = TextDatumGetCString(reinterpret_cast<const Const*>(name)->constvalue);
        walk.found(function, hidden_input_of_setting(setting));
    } else {
        walk.found(function, inputs.hidden);
    }
}

bool note_function(Oid function, void* context) {
    static_cast<WalkLocal*>(context)->found(function, inputs_of(function).hidden);
    return false;
}

bool walk_node(Node* node, void* context) {
    if (!node) return false;
    WalkLocal& walk = *static_cast<WalkLocal*>(context);
    switch (nodeTag(node)) {
        case T_Var:
        case T_Const:
        case T_Param:
            return false;
        case T_FuncExpr: {
            const auto* call = reinterpret_cast<const FuncExpr*>(node);
            note_call(walk, call->funcid, call->args);
            break;
        }
        case T_Aggref: {
            const auto* call = reinterpret_cast<const Aggref*>(node);
            note_call(walk, call->aggfnoid, call->args);
            break;
        }
        case T_WindowFunc: {
            const auto* call = reinterpret_cast<const WindowFunc*>(node);
            note_call(walk, call->winfnoid, call->args);
            break;
        }
        case T_CoerceViaIO: {
            const auto* cast = reinterpret_cast<const CoerceViaIO*>(node);
            note_text_of(walk, reinterpret_cast<Node*>(cast->arg));
            note_text(walk, cast->resulttype, true);
            break;
        }
        case T_XmlExpr: {
            const auto* xml = reinterpret_cast<const XmlExpr*>(node);
            note_text_of(walk, xml->named_args);
            note_text_of(walk, xml->args);
            break;
        }
#if PG_VERSION_NUM >= 160000
        case T_JsonConstructorExpr:
            note_text_of(walk, reinterpret_cast<const JsonConstructorExpr*>(node)->args);
            break;
#endif
        case T_SQLValueFunction:
            walk.found(reinterpret_cast<const SQLValueFunction*>(node)->op);
            break;
        case T_NextValueExpr:
            walk.found(F_NEXTVAL, HiddenInput::kSequence);
            break;
        default:
            check_functions_in_node(node, note_function, context);
    }
    return walk_expression(node, walk_node, context);
}

template <typename Visit>
void visit_plans(const List* plans, Visit visit) {
    ListCell* cell;
    foreach (cell, plans)
        if (lfirst(cell)) visit(static_cast<Plan*>(lfirst(cell)));
}

// Those below a node, but not the plans of its subqueries in expressions, which the statement lists.
template <typename Visit>
void visit_children(Plan* plan, Visit visit) {
    if (plan->lefttree) visit(plan->lefttree);
    if (plan->righttree) visit(plan->righttree);
    switch (nodeTag(plan)) {
        case T_Append:
            return visit_plans(reinterpret_cast<Append*>(plan)->appendplans, visit);
        case T_MergeAppend:
            return visit_plans(reinterpret_cast<MergeAppend*>(plan)->mergeplans, visit);
        case T_BitmapAnd:
            return visit_plans(reinterpret_cast<BitmapAnd*>(plan)->bitmapplans, visit);
        case T_BitmapOr:
            return visit_plans(reinterpret_cast<BitmapOr*>(plan)->bitmapplans, visit);
        case T_CustomScan:
            return visit_plans(reinterpret_cast<CustomScan*>(plan)->custom_plans, visit);
        case T_SubqueryScan:
            return visit(reinterpret_cast<SubqueryScan*>(plan)->subplan);
        default:
            return;
    }
}

// The expressions of a node beside its target list and its conditions.
template <typename Visit>
void visit_expressions(Plan* plan, Visit visit) {
    switch (nodeTag(plan)) {
        case T_Result:
            return visit(reinterpret_cast<Result*>(plan)->resconstantqual);
        case T_IndexScan:
            visit(reinterpret_cast<IndexScan*>(plan)->indexqual);
            return visit(reinterpret_cast<IndexScan*>(plan)->indexorderby);
        case T_IndexOnlyScan:
            visit(reinterpret_cast<IndexOnlyScan*>(plan)->indexqual);
            return visit(reinterpret_cast<IndexOnlyScan*>(plan)->indexorderby);
        case T_BitmapIndexScan:
            return visit(reinterpret_cast<BitmapIndexScan*>(plan)->indexqual);
        case T_TidScan:
            return visit(reinterpret_cast<TidScan*>(plan)->tidquals);
        case T_TidRangeScan:
            return visit(reinterpret_cast<TidRangeScan*>(plan)->tidrangequals);
        case T_SampleScan:
            return visit(reinterpret_cast<SampleScan*>(plan)->tablesample);
        case T_FunctionScan:
            return visit(reinterpret_cast<FunctionScan*>(plan)->functions);
        case T_TableFuncScan:
            return visit(reinterpret_cast<TableFuncScan*>(plan)->tablefunc);
        case T_ValuesScan:
            return visit(reinterpret_cast<ValuesScan*>(plan)->values_lists);
        case T_ForeignScan:
            return visit(reinterpret_cast<ForeignScan*>(plan)->fdw_exprs);
        case T_CustomScan:
            return visit(reinterpret_cast<CustomScan*>(plan)->custom_exprs);
        case T_NestLoop:
            return visit(reinterpret_cast<NestLoop*>(plan)->join.joinqual);
        case T_MergeJoin:
            visit(reinterpret_cast<MergeJoin*>(plan)->join.joinqual);
            return visit(reinterpret_cast<MergeJoin*>(plan)->mergeclauses);
        case T_HashJoin:
            visit(reinterpret_cast<HashJoin*>(plan)->join.joinqual);
            return visit(reinterpret_cast<HashJoin*>(plan)->hashclauses);
        case T_WindowAgg:
            visit(reinterpret_cast<WindowAgg*>(plan)->startOffset);
            return visit(reinterpret_cast<WindowAgg*>(plan)->endOffset);
        case T_Limit:
            visit(reinterpret_cast<Limit*>(plan)->limitOffset);
            return visit(reinterpret_cast<Limit*>(plan)->limitCount);
        default:
            return;
    }
}

void walk_plan(WalkLocal& walk, Plan* plan) {
    check_stack_depth();
    const auto walk_expressions = [&](auto* expressions) { walk_node(reinterpret_cast<Node*>(expressions), &walk); };
    walk_expressions(plan->targetlist);
    walk_expressions(plan->qual);
    visit_expressions(plan, walk_expressions);
    if (IsA(plan, SampleScan))
        walk.found(reinterpret_cast<SampleScan*>(plan)->tablesample->tsmhandler, HiddenInput::kChance);
    visit_children(plan, [&](Plan* child) { walk_plan(walk, child); });
}

void note_columns(WalkLocal& walk, Plan* plan) {
    note_text_of(walk, plan->targetlist);
    visit_children(plan, [&](Plan* child) { note_columns(walk, child); });
}

}  // namespace

const char* name_of(CalledFunction called) {
    return OidIsValid(called.function) ? format_procedure(called.function) : name_of(called.keyword);
}

void visit_hidden_inputs(const PlannedStmt& query, CalledFunctionVisit visit, void* context) {
    if (!query.planTree) return;
    WalkLocal walk{visit, context};
    const auto each_plan = [&](auto visit_plan) {
        visit_plan(query.planTree);
        visit_plans(query.subplans, visit_plan);
    };
    each_plan([&](Plan* plan) { walk_plan(walk, plan); });
    // Who runs the query may make text of what it returns, as PL/pgSQL does for a variable of that type.
    note_text_of(walk, query.planTree->targetlist);
    // Which columns such a row has is known where they were made: below, in a subquery's plan.
    if (walk.prints_records) each_plan([&](Plan* plan) { note_columns(walk, plan); });
}

}  // namespace prompt_cache
