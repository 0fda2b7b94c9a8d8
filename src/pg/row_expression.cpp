#include "pg/row_expression.hpp"

#include "pg/as_owner.hpp"
#include "pg/expression_objects.hpp"
#include "pg/expression_tree.hpp"
#include "pg/fixed_settings.hpp"
#include "pg/attempt.hpp"

extern "C" {
#include "optimizer/optimizer.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/plancache.h"
}

namespace prompt_cache {

struct RowExpression {
    struct Key {
        Oid relation;
        std::uint32_t spare;
        std::uint64_t text_hash;
    };

    Key key;
    MemoryContext context;
    const char* text;
    Bitmapset* columns;
    AttrNumber column;          // of a key's type and nothing else: needs no evaluation
    CachedExpression* planned;  // the server watches the functions in it
    bool immutable;
    bool replaceable;
    bool valid;                // false before it is prepared
    std::uint64_t changes;     // messages about the relation
};

namespace {

HTAB* prepared_local = nullptr;

void relation_changed(Datum, Oid relation) {
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, prepared_local);
    while (auto* expression = static_cast<RowExpression*>(hash_seq_search(&scan)))
        if (!OidIsValid(relation) || expression->key.relation == relation) {
            expression->valid = false;
            expression->changes++;
        }
}

RowExpression* place_of(Oid relation, const char* text) {
    if (!prepared_local) {
        HASHCTL control{};
        control.keysize = sizeof(RowExpression::Key);
        control.entrysize = sizeof(RowExpression);
        prepared_local = hash_create("prompt_cache expressions", 16, &control, HASH_ELEM | HASH_BLOBS);
        CacheRegisterRelcacheCallback(relation_changed, static_cast<Datum>(0));
    }
    const auto* bytes = reinterpret_cast<const unsigned char*>(text);
    const RowExpression::Key key{relation, 0, hash_bytes_extended(bytes, static_cast<int>(strlen(text)), 0)};
    bool found = false;
    auto* place = static_cast<RowExpression*>(hash_search(prepared_local, &key, HASH_ENTER, &found));
    if (!found) {
        place->context = nullptr;
        place->planned = nullptr;
        place->valid = false;
        place->changes = 0;
    }
    return place;
}

void empty(RowExpression* place) {
    place->valid = false;
    if (place->planned) FreeCachedExpression(place->planned);
    place->planned = nullptr;
    place->columns = nullptr;
    if (place->context) MemoryContextDelete(place->context);
    place->context = nullptr;
}

bool is_key_type(Oid type) noexcept {
    return type == INT2OID || type == INT4OID || type == INT8OID || type == UUIDOID || type == TEXTOID ||
           type == VARCHAROID;
}

// Expects fixed settings and the owner's rights. Planning runs functions that are called IMMUTABLE, and these may come
// back here for the same expression; so the place is filled at the end.
void prepare(RowExpression* place, Relation relation, const char* text) {
    const std::uint64_t changes = place->changes;  // messages that arrive on the way count
    ExpressionTree expression = analyse_expression(relation, text);
    RowExpression made = *place;
    made.column = is_key_type(expression.type) ? expression.column : InvalidAttrNumber;
    ExpressionObjects objects;
    add_objects_of(expression.tree, objects);
    made.replaceable = objects.numbers != NIL;
    // To plan is to run: calls with constant arguments are folded. What may be replaced is never evaluated by a
    // trigger, so it needs no plan.
    made.planned = nullptr;
    made.immutable = false;
    if (!made.replaceable) {
        // Checked on a copy: what the server caches is freed by nobody if an error comes.
        Node* planned = reinterpret_cast<Node*>(expression_planner(static_cast<Expr*>(copyObjectImpl(expression.tree))));
        check_functions(planned, expression.stable_function);
        made.immutable = !contain_mutable_functions(planned);
        made.planned = GetCachedExpression(expression.tree);
    }
    made.context = AllocSetContextCreate(TopMemoryContext, "prompt_cache expression", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(made.context);
    made.text = pstrdup(text);
    made.columns = bms_copy(expression.columns);
    MemoryContextSwitchTo(before);
    empty(place);
    made.changes = place->changes;
    made.valid = made.changes == changes;
    *place = made;
}

struct Standpoint {
    AsOwnerLocal user;
    int settings;
};

Oid owner_of_table(Oid table) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "prompt_cache: table %u is gone", table);
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

Standpoint stand_as_owner(Oid source) {
    Standpoint before;
    before.user = begin_as_owner(owner_of_table(source));
    before.settings = fix_settings();
    return before;
}

void step_back(const Standpoint& before) {
    restore_settings(before.settings);
    end_as_owner(before.user);
}

RowText text_of_key(Datum value, Oid type) {
    char* digits = static_cast<char*>(palloc(MAXINT8LEN + 1));
    const auto number = [&](std::int64_t integer) {
        return std::string_view(digits, static_cast<std::size_t>(pg_lltoa(integer, digits)));
    };
    switch (type) {
        case INT8OID:
            return {true, number(DatumGetInt64(value))};
        case INT4OID:
            return {true, number(DatumGetInt32(value))};
        case INT2OID:
            return {true, number(DatumGetInt16(value))};
        case UUIDOID:
            return {true, DatumGetCString(DirectFunctionCall1(uuid_out, value))};
        default:
            return {true, view_of(DatumGetTextPP(value))};
    }
}

RowText column_of_row(Relation relation, HeapTuple row, AttrNumber column) {
    TupleDesc descriptor = RelationGetDescr(relation);
    bool isnull = false;
    const Datum value = heap_getattr(row, column, descriptor, &isnull);
    if (isnull) return {true, std::nullopt};
    return text_of_key(value, TupleDescAttr(descriptor, column - 1)->atttypid);
}

// Expects fixed settings and the owner's rights. A copy of the tree is run: what a function in it does may
// replace ours.
void evaluate_rows(const RowExpression& expression, Relation relation, std::span<const HeapTuple> rows,
                   RowText* values) {
    MemoryContext context = CurrentMemoryContext;
    const bool pushed = !ActiveSnapshotSet();
    if (pushed) PushActiveSnapshot(GetTransactionSnapshot());
    EState* executor = CreateExecutorState();
    MemoryContextSwitchTo(executor->es_query_cxt);
    auto* tree = static_cast<Expr*>(copyObjectImpl(expression.planned->expr));
    ExprState* state = ExecInitExpr(tree, nullptr);
    TupleTableSlot* slot = MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsHeapTuple);
    ExprContext* row = GetPerTupleExprContext(executor);
    row->ecxt_scantuple = slot;
    for (HeapTuple tuple : rows) {
        ExecStoreHeapTuple(tuple, slot, false);
        bool isnull = false;
        const Datum value = ExecEvalExprSwitchContext(state, row, &isnull);
        RowText& result = *values++;
        result.known = true;
        if (!isnull) {
            MemoryContext before = MemoryContextSwitchTo(context);
            result.value = view_of(DatumGetTextPCopy(value));
            MemoryContextSwitchTo(before);
        }
        ResetExprContext(row);
    }
    ExecDropSingleTupleTableSlot(slot);
    MemoryContextSwitchTo(context);
    FreeExecutorState(executor);
    if (pushed) PopActiveSnapshot();
}

bool evaluate_safely(const RowExpression& expression, Relation relation, Oid source, std::span<const HeapTuple> rows,
                     RowText* values) {
    return without_error([&] {
        const Standpoint before = stand_as_owner(source);
        evaluate_rows(expression, relation, rows, values);
        step_back(before);
    });
}

}  // namespace

CheckedExpression check_row_expression(Relation relation, const char* text, Steadiness least) {
    const AsOwnerLocal caller = begin_as_owner(relation->rd_rel->relowner);
    ExpressionTree expression = analyse_expression(relation, text);
    const int settings = fix_settings();
    Expr* planned = expression_planner(static_cast<Expr*>(copyObjectImpl(expression.tree)));
    check_functions(reinterpret_cast<Node*>(planned), expression.stable_function);
    const CheckedExpression checked{
        print_expression(relation, expression), expression.type, expression.column,
        !contain_mutable_functions(reinterpret_cast<Node*>(planned)), expression.stable_function,
        expression.columns};
    if (least == Steadiness::kImmutable && !checked.immutable)
        ereport(ERROR, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
                        errmsg("expression \"%s\" is not IMMUTABLE", text),
                        errdetail("It contains a function whose result depends on more than its arguments."),
                        errhint("Use functions that are IMMUTABLE.")));
    analyse_expression(relation, checked.text);  // what will be read later is what was meant
    restore_settings(settings);
    end_as_owner(caller);
    return checked;
}

const RowExpression* find_row_expression(Relation relation, Oid source, const char* text) {
    RowExpression* place = place_of(RelationGetRelid(relation), text);
    if (place->valid && (!place->planned || place->planned->is_valid) && strcmp(place->text, text) == 0) return place;
    const bool fits = without_error([&] {
        const Standpoint before = stand_as_owner(source);
        prepare(place, relation, text);
        step_back(before);
    });
    if (fits) return place;
    empty(place);
    return nullptr;
}

bool is_immutable(const RowExpression& expression) noexcept {
    return expression.immutable;
}

bool is_replaceable(const RowExpression& expression) noexcept {
    return expression.replaceable;
}

RowText evaluate(const RowExpression& expression, Relation relation, Oid source, HeapTuple row) {
    if (expression.column > 0) return column_of_row(relation, row, expression.column);
    if (!expression.planned) return {};  // replaceable, or an evaluation before this one has made it unfit
    RowText value;
    if (!evaluate_safely(expression, relation, source, {&row, 1}, &value)) return {};
    return value;
}

bool touched(const RowExpression& expression, Relation relation, HeapTuple before, HeapTuple after) {
    for (int column = -1; (column = bms_next_member(expression.columns, column)) >= 0;)
        if (!same_bytes(before, after, RelationGetDescr(relation), column)) return true;
    return false;
}

bool changed(const RowExpression& expression, Relation relation, Oid source, HeapTuple before, HeapTuple after) {
    const bool differ = touched(expression, relation, before, after);
    if (!differ || expression.column > 0 || !expression.immutable || expression.replaceable) return differ;
    const HeapTuple rows[] = {before, after};
    RowText values[2];
    return !evaluate_safely(expression, relation, source, rows, values) || values[0].value != values[1].value;
}

bool same_bytes(HeapTuple before, HeapTuple after, TupleDesc descriptor, int column) {
    bool null_before = false;
    bool null_after = false;
    const Datum a = heap_getattr(before, column, descriptor, &null_before);
    const Datum b = heap_getattr(after, column, descriptor, &null_after);
    if (null_before || null_after) return null_before == null_after;
    const Form_pg_attribute attribute = TupleDescAttr(descriptor, column - 1);
    return datumIsEqual(a, b, attribute->attbyval, attribute->attlen);
}

}  // namespace prompt_cache
