// The trigger on every source: which tags does this change concern?
//
// It stands AFTER INSERT, UPDATE and DELETE FOR EACH ROW, and AFTER TRUNCATE FOR EACH STATEMENT, always
// without WHEN. Its arguments are names, so that a dump carries them: what kind of source it is, the key's
// column, and what matters of the row: columns, or expressions over it. Columns are compared by their raw
// bytes: a value that was not touched keeps its pointer to the TOAST table, so nothing is ever detoasted to
// find out that a last_login has moved. An expression is evaluated only when a column that it reads differs.
//
// A watch of a namespace names the namespace, the expression that gives an entry's key, and the columns that
// matter, none for all.
//
// A column that is no longer there, or an expression that no longer fits, makes every change count, and a key
// that is no longer there makes it count for everything: too much, until attach() is called again.
#include "cache/writer.hpp"
#include "exports.hpp"
#include "pg/postgres.hpp"
#include "pg/row_expression.hpp"

namespace prompt_cache {

namespace {

TagKind kind_named(const char* name) {
    if (strcmp(name, "user") == 0) return TagKind::kUser;
    if (strcmp(name, "tenant") == 0) return TagKind::kTenant;
    if (strcmp(name, "application") == 0) return TagKind::kApplication;
    return TagKind::kAll;
}

// Names the row by its key's output form.
Tag tag_of_row(TagKind kind, HeapTuple row, TupleDesc descriptor, int column) {
    bool isnull = false;
    const Datum key = heap_getattr(row, column, descriptor, &isnull);
    if (isnull) return Tag(TagKind::kAll);
    char digits[MAXINT8LEN + 1];
    const auto number = [&](std::int64_t value) {
        return Tag(kind, {digits, static_cast<std::size_t>(pg_lltoa(value, digits))});
    };
    switch (TupleDescAttr(descriptor, column - 1)->atttypid) {
        case INT8OID:
            return number(DatumGetInt64(key));
        case INT4OID:
            return number(DatumGetInt32(key));
        case INT2OID:
            return number(DatumGetInt16(key));
        case UUIDOID:
            return Tag(kind, DatumGetCString(DirectFunctionCall1(uuid_out, key)));
        case TEXTOID:
        case VARCHAROID:
            return Tag(kind, view_of(DatumGetTextPP(key)));
        default:
            return Tag(TagKind::kAll);
    }
}

bool watched_changed(const TriggerData& data, HeapTuple before, HeapTuple after, int first_watched = 2) {
    TupleDesc descriptor = RelationGetDescr(data.tg_relation);
    for (int i = first_watched; i < data.tg_trigger->tgnargs; i++) {
        const char* watched = data.tg_trigger->tgargs[i];
        const int column = SPI_fnumber(descriptor, watched);
        if (column > 0) {
            if (!same_bytes(before, after, descriptor, column)) return true;
            continue;
        }
        const RowExpression* expression = find_row_expression(data.tg_relation, watched);
        if (!expression || changed(*expression, data.tg_relation, before, after)) return true;
    }
    return false;
}

HeapTuple row_before(const TriggerData& data) {
    return TRIGGER_FIRED_BY_INSERT(data.tg_event) ? nullptr : data.tg_trigtuple;
}
HeapTuple row_after(const TriggerData& data) {
    if (TRIGGER_FIRED_BY_UPDATE(data.tg_event)) return data.tg_newtuple;
    return TRIGGER_FIRED_BY_INSERT(data.tg_event) ? data.tg_trigtuple : nullptr;
}

// Arguments of a watch's trigger.
enum WatchArgument { kWatchedNamespace = 1, kWatchedKey, kFirstWatchedColumn };

// A row without a key concerns no entry. One whose key cannot be told concerns them all; so does one whose key is
// made by a function that may be replaced before this transaction commits, and would then name another entry.
void note_entry_of_row(const char* name, const RowExpression* key, Relation relation, HeapTuple row) {
    const RowText text = key && !is_replaceable(*key) ? evaluate(*key, relation, row) : RowText{};
    if (!text.known)
        note_change(Tag(TagKind::kNamespace, name));
    else if (text.value)
        note_change(Tag(TagKind::kEntry, name, *text.value));
}

void note_watched_row(const TriggerData& data) {
    const Trigger& trigger = *data.tg_trigger;
    const char* name = trigger.tgargs[kWatchedNamespace];
    const char* key_text = trigger.tgargs[kWatchedKey];
    const HeapTuple before = row_before(data);
    const HeapTuple after = row_after(data);
    const bool all_columns = trigger.tgnargs == kFirstWatchedColumn;
    const bool row_changed =
        !before || !after || all_columns || watched_changed(data, before, after, kFirstWatchedColumn);
    if (key_text[0] == '\0') {
        if (row_changed) note_change(Tag(TagKind::kNamespace, name));
        return;
    }
    const RowExpression* key = find_row_expression(data.tg_relation, key_text);
    // The columns that the key reads are watched too, whether or not its value is another.
    if (!row_changed && key && !touched(*key, data.tg_relation, before, after)) return;
    if (before) note_entry_of_row(name, key, data.tg_relation, before);
    if (after) note_entry_of_row(name, key, data.tg_relation, after);
}

// A row of one of our tables that say what the namespaces are. Its second argument names the column of the namespace
// whose values die with it; '' where none do.
void note_wiring_of_namespaces(const TriggerData& data) {
    note_change(Tag(TagKind::kNamespace));
    const char* column_name = data.tg_trigger->tgargs[1];
    if (column_name[0] == '\0') return;
    TupleDesc descriptor = RelationGetDescr(data.tg_relation);
    const int column = SPI_fnumber(descriptor, column_name);
    for (const HeapTuple row : {row_before(data), row_after(data)}) {
        bool isnull = true;
        const Datum name = row && column > 0 ? heap_getattr(row, column, descriptor, &isnull) : static_cast<Datum>(0);
        if (!isnull) note_change(Tag(TagKind::kNamespace, view_of(DatumGetTextPP(name))));
    }
}

void note_row_change(const TriggerData& data, TagKind kind) {
    const Trigger& trigger = *data.tg_trigger;
    TupleDesc descriptor = RelationGetDescr(data.tg_relation);
    HeapTuple before = row_before(data);
    HeapTuple after = row_after(data);
    if (kind == TagKind::kAll) {
        note_change(Tag(TagKind::kAll));
        return;
    }
    if (kind == TagKind::kApplication) {
        if (!before || !after || watched_changed(data, before, after))
            note_change(Tag(TagKind::kApplication));
        return;
    }
    const int key = SPI_fnumber(descriptor, trigger.tgargs[1]);
    if (key <= 0) {
        note_change(Tag(TagKind::kAll));
        return;
    }
    if (before && after && same_bytes(before, after, descriptor, key) &&
        !watched_changed(data, before, after))
        return;
    if (before) note_change(tag_of_row(kind, before, descriptor, key));
    if (after) note_change(tag_of_row(kind, after, descriptor, key));
}

}  // namespace

PC_FUNCTION(pc_source_changed) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("prompt_cache._source_changed() can only be called as a trigger"),
                        errhint("prompt_cache.attach() makes the triggers.")));
    const auto* data = reinterpret_cast<const TriggerData*>(fcinfo->context);
    if (!TRIGGER_FIRED_AFTER(data->tg_event) || data->tg_trigger->tgnargs < 2)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("trigger \"%s\" does not fit prompt_cache", data->tg_trigger->tgname),
                        errhint("prompt_cache.attach() makes the triggers.")));
    const Trigger& trigger = *data->tg_trigger;
    const bool is_watch = strcmp(trigger.tgargs[0], "watch") == 0 && trigger.tgnargs >= kFirstWatchedColumn;
    if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
        note_change(is_watch ? Tag(TagKind::kNamespace, trigger.tgargs[kWatchedNamespace]) : Tag(TagKind::kAll));
    else if (is_watch)
        note_watched_row(*data);
    else if (strcmp(trigger.tgargs[0], "namespaces") == 0)
        note_wiring_of_namespaces(*data);
    else
        note_row_change(*data, kind_named(data->tg_trigger->tgargs[0]));
    return PointerGetDatum(nullptr);
}

}  // namespace prompt_cache
