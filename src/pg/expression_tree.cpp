#include "pg/expression_tree.hpp"

#include "pg/hidden_inputs.hpp"

extern "C" {
#include "access/sysattr.h"
#include "catalog/pg_proc.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/regproc.h"
#include "utils/ruleutils.h"
}

namespace prompt_cache {

namespace {

constexpr const char* kUseBuilder =
    "An expression reads the columns of one row. For anything else write a builder function and "
    "prompt_cache.create_namespace().";

struct Complaint {
    const char* text;
    const char* table;
};

// An error's place is one in the expression, not in the statement that the user has sent.
void point_into_expression(void* argument) {
    const auto* complaint = static_cast<const Complaint*>(argument);
    const int position = geterrposition();
    if (position > 0) {
        errposition(0);
        internalerrposition(position);
        internalerrquery(complaint->text);
    }
    errcontext("expression over a row of table \"%s\" for prompt_cache", complaint->table);
}

void refuse_list(const char* text) {
    ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("\"%s\" is not a single expression", text),
                    errhint("%s", kUseBuilder)));
}

// The one expression that the text consists of, before any name in it is looked up.
Node* parse(const char* text) {
    List* statements = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
    const auto* select = castNode(SelectStmt, linitial_node(RawStmt, statements)->stmt);
    const bool clauses = select->distinctClause || select->fromClause || select->whereClause ||
                         select->groupClause || select->havingClause || select->windowClause ||
                         select->sortClause || select->limitOffset || select->limitCount ||
                         select->lockingClause;
    if (clauses || list_length(select->targetList) != 1 || linitial_node(ResTarget, select->targetList)->name)
        refuse_list(text);
    Node* expression = linitial_node(ResTarget, select->targetList)->val;
    // transformExpr() does not expect a star by itself: a SELECT list has expanded it by then.
    if (IsA(expression, ColumnRef) && IsA(llast(reinterpret_cast<ColumnRef*>(expression)->fields), A_Star))
        refuse_list(text);
    return expression;
}

void refuse_parts(const ParseState& state, Node* tree) {
    const char* part = state.p_hasSubLinks            ? "subqueries"
                       : state.p_hasAggs              ? "aggregate functions"
                       : state.p_hasWindowFuncs       ? "window functions"
                       : expression_returns_set(tree) ? "set-returning functions"
                                                      : nullptr;
    if (part)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("an expression over a row cannot contain %s", part), errhint("%s", kUseBuilder)));
}

void refuse_function(const char* kind, Oid function, const char* why, const char* hint) {
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
             errmsg("an expression over a row cannot use %s function %s", kind, format_procedure(function)),
             errdetail("%s", why), errhint("%s", hint)));
}

bool check_function(Oid function, void* context) {
    const char volatility = func_volatile(function);
    if (volatility == PROVOLATILE_VOLATILE)
        refuse_function("VOLATILE", function,
                        "Its result may differ from call to call, so that it cannot be cached.",
                        "Declare the function IMMUTABLE if its result depends on its arguments alone.");
    if (volatility != PROVOLATILE_STABLE) return false;
    if (function >= FirstNormalObjectId)
        *static_cast<Oid*>(context) = function;
    else if (!is_steady(function))
        refuse_function("STABLE", function,
                        "Its result may change though the row does not, which nobody would notice.",
                        "Use what depends on the row alone.");
    return false;
}

bool check_node(Node* node, void* context) {
    if (!node) return false;
    if (IsA(node, SQLValueFunction))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
                 errmsg("an expression over a row cannot use the clock or the session's user"),
                 errdetail("Its result may change though the row does not, which nobody would notice."),
                 errhint("Use what depends on the row alone.")));
    check_functions_in_node(node, check_function, context);
    return walk_expression(node, check_node, context);
}

AttrNumber only_column(const Node* tree) {
    return IsA(tree, Var) ? reinterpret_cast<const Var*>(tree)->varattno : InvalidAttrNumber;
}

// The columns that are read: ordinary ones, whose bytes a trigger can compare.
Bitmapset* columns_of(Relation relation, Node* tree) {
    Bitmapset* shifted = nullptr;
    pull_varattnos(tree, 1, &shifted);
    Bitmapset* columns = nullptr;
    for (int i = -1; (i = bms_next_member(shifted, i)) >= 0;) {
        const int column = i + FirstLowInvalidHeapAttributeNumber;
        if (column <= 0)
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                            errmsg("an expression over a row cannot use %s",
                                   column == 0 ? "the whole row" : "system columns"),
                            errhint("Name the columns that it reads.")));
#ifdef ATTRIBUTE_GENERATED_VIRTUAL
        const Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), column - 1);
        if (attribute->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
            ereport(ERROR,
                    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                     errmsg("an expression over a row cannot use column \"%s\", which is computed when read",
                            NameStr(attribute->attname)),
                     errhint("Write out what it computes.")));
#else
        (void)relation;
#endif
        columns = bms_add_member(columns, column);
    }
    return columns;
}

}  // namespace

ExpressionTree analyse_expression(Relation relation, const char* text) {
    Complaint complaint{text, RelationGetRelationName(relation)};
    ErrorContextCallback callback{error_context_stack, point_into_expression, &complaint};
    error_context_stack = &callback;

    ParseState* state = make_parsestate(nullptr);
    state->p_sourcetext = text;
    ParseNamespaceItem* row =
        addRangeTableEntryForRelation(state, relation, AccessShareLock, nullptr, false, false);
    addNSItemToQuery(state, row, false, true, true);

    ExpressionTree expression{};
    const int column = SPI_fnumber(RelationGetDescr(relation), text);
    Node* tree;
    if (column > 0) {
        const Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), column - 1);
        tree = reinterpret_cast<Node*>(makeVar(1, static_cast<AttrNumber>(column), attribute->atttypid,
                                               attribute->atttypmod, attribute->attcollation, 0));
    } else {
        tree = transformExpr(state, parse(text), EXPR_KIND_OTHER);
        refuse_parts(*state, tree);
    }
    expression.columns = columns_of(relation, tree);
    expression.column = only_column(tree);
    expression.type = exprType(tree);
    tree = coerce_to_target_type(state, tree, expression.type, TEXTOID, -1, COERCION_EXPLICIT,
                                 COERCE_EXPLICIT_CAST, -1);
    if (!tree)
        ereport(ERROR, (errcode(ERRCODE_CANNOT_COERCE),
                        errmsg("cannot cast type %s to text", format_type_be(expression.type)),
                        errhint("Cast the expression to a type that has a text form.")));
    assign_expr_collations(state, tree);
    expression.tree = tree;
    check_functions(tree, expression.stable_function);
    free_parsestate(state);

    error_context_stack = callback.previous;
    return expression;
}

void check_functions(Node* tree, Oid& stable_function) {
    check_node(tree, &stable_function);
}

const char* print_expression(Relation relation, const ExpressionTree& expression) {
    if (expression.column > 0)
        return pstrdup(NameStr(TupleDescAttr(RelationGetDescr(relation), expression.column - 1)->attname));
    // With the casts that the parser has added: the functions it has found must be found again, whatever
    // others of their names there are by then.
    return deparse_expression(
        expression.tree, deparse_context_for(RelationGetRelationName(relation), RelationGetRelid(relation)),
        false, true);
}

}  // namespace prompt_cache
