// The trigger on every source: which tags does this change concern?
//
// It stands AFTER INSERT, UPDATE and DELETE FOR EACH ROW, and AFTER TRUNCATE FOR EACH STATEMENT, always
// without WHEN. Its arguments are names, so that a dump carries them: what kind of source it is, the key's
// column, and what matters of the row: columns, or expressions over it. Columns are compared by their raw
// bytes: a value that was not touched keeps its pointer to the TOAST table, so nothing is ever detoasted to
// find out that a last_login has moved. An expression is evaluated only when a column that it reads differs.
//
// Arguments are claims: anybody who may create triggers can write them. They count only where cache/registry.hpp
// finds the same in `attachment` or `watch`; elsewhere the trigger does nothing. On our own tables the table alone
// decides, and arguments are not read. Types are checked before bytes are read.
//
// A watch of a namespace names the namespace, the expression that gives an entry's key, and the columns that
// matter, none for all.
//
// A column that is no longer there, or an expression that no longer fits, makes every change count, and a key
// that is no longer there makes it count for everything: too much, until attach() is called again.
#include "cache/registry.hpp"
#include "cache/writer.hpp"
#include "exports.hpp"
#include "pg/catalog.hpp"
#include "pg/postgres.hpp"
#include "pg/row_expression.hpp"

namespace prompt_cache {

namespace {

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

bool watched_changed(const TriggerData& data, Oid source, HeapTuple before, HeapTuple after, int first_watched) {
    TupleDesc descriptor = RelationGetDescr(data.tg_relation);
    for (int i = first_watched; i < data.tg_trigger->tgnargs; i++) {
        const char* watched = data.tg_trigger->tgargs[i];
        const int column = SPI_fnumber(descriptor, watched);
        if (column > 0) {
            if (!same_bytes(before, after, descriptor, column)) return true;
            continue;
        }
        const RowExpression* expression = find_row_expression(data.tg_relation, source, watched);
        if (!expression || changed(*expression, data.tg_relation, source, before, after)) return true;
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

// Arguments of the trigger of an attached table, and of a watch.
enum SourceArgument { kKind, kKey, kFirstColumn };
enum WatchArgument { kWatchedNamespace = 1, kWatchedKey, kFirstWatchedColumn };

// A row without a key concerns no entry. One whose key cannot be found out concerns them all; so does one whose key is
// made by a function that may be replaced before this transaction commits, and would then name another entry.
void note_entry_of_row(const char* name, const RowExpression* key, Relation relation, Oid source, HeapTuple row) {
    const RowText text = key && !is_replaceable(*key) ? evaluate(*key, relation, source, row) : RowText{};
    if (!text.known)
        note_change(Tag(TagKind::kNamespace, name));
    else if (text.value)
        note_change(Tag(TagKind::kEntry, name, *text.value));
}

void note_watched_row(const TriggerData& data, Oid source) {
    const Trigger& trigger = *data.tg_trigger;
    const char* name = trigger.tgargs[kWatchedNamespace];
    const char* key_text = trigger.tgargs[kWatchedKey];
    const HeapTuple before = row_before(data);
    const HeapTuple after = row_after(data);
    const bool all_columns = trigger.tgnargs == kFirstWatchedColumn;
    const bool row_changed =
        !before || !after || all_columns || watched_changed(data, source, before, after, kFirstWatchedColumn);
    if (key_text[0] == '\0') {
        if (row_changed) note_change(Tag(TagKind::kNamespace, name));
        return;
    }
    const RowExpression* key = find_row_expression(data.tg_relation, source, key_text);
    // The columns that the key reads are watched too, whether or not its value is another.
    if (!row_changed && key && !touched(*key, data.tg_relation, before, after)) return;
    if (before) note_entry_of_row(name, key, data.tg_relation, source, before);
    if (after) note_entry_of_row(name, key, data.tg_relation, source, after);
}

void note_attached_row(const TriggerData& data, Oid source) {
    const Trigger& trigger = *data.tg_trigger;
    const TagKind kind = strcmp(trigger.tgargs[kKind], "user") == 0 ? TagKind::kUser : TagKind::kTenant;
    TupleDesc descriptor = RelationGetDescr(data.tg_relation);
    const HeapTuple before = row_before(data);
    const HeapTuple after = row_after(data);
    const int key = SPI_fnumber(descriptor, trigger.tgargs[kKey]);
    if (key <= 0) {
        note_change(Tag(TagKind::kAll));
        return;
    }
    if (before && after && same_bytes(before, after, descriptor, key) &&
        !watched_changed(data, source, before, after, kFirstColumn))
        return;
    if (before) note_change(tag_of_row(kind, before, descriptor, key));
    if (after) note_change(tag_of_row(kind, after, descriptor, key));
}

// A change of a table of a user's, by the trigger that attach() or watch() put there.
void note_source(const TriggerData& data) {
    const Trigger& trigger = *data.tg_trigger;
    const registry::Registration found = registry::registration_of(data.tg_relation, trigger);
    if (found.registered == registry::Registered::kNo) return;
    if (found.registered == registry::Registered::kUnknown) {
        note_change(Tag(TagKind::kAll));
        return;
    }
    const bool is_watch = strcmp(trigger.tgargs[kKind], "watch") == 0;
    if (TRIGGER_FIRED_BY_TRUNCATE(data.tg_event))
        note_change(is_watch ? Tag(TagKind::kNamespace, trigger.tgargs[kWatchedNamespace]) : Tag(TagKind::kAll));
    else if (is_watch)
        note_watched_row(data, found.source);
    else
        note_attached_row(data, found.source);
}

// The namespace that a row of a table of our own is about.
std::optional<std::string_view> namespace_of(Relation relation, HeapTuple row) {
    TupleDesc descriptor = RelationGetDescr(relation);
    const int column = SPI_fnumber(descriptor, "namespace");
    if (column <= 0 || TupleDescAttr(descriptor, column - 1)->atttypid != TEXTOID) return std::nullopt;
    bool isnull = false;
    const Datum value = heap_getattr(row, column, descriptor, &isnull);
    if (isnull) return std::nullopt;
    return view_of(DatumGetTextPP(value));
}

// Writers that find no registration do nothing, so none may be at work on a table when its registration comes to count.
// attach() and watch() have this lock already; a restore that copies rows into our tables has not.
void lock_registered(Relation relation, HeapTuple row) {
    TupleDesc descriptor = RelationGetDescr(relation);
    for (const char* name : {"users", "tenants", "source"}) {  // of `attachment`, and of `watch`
        const int column = SPI_fnumber(descriptor, name);
        bool isnull = true;
        const Datum source = column > 0 ? heap_getattr(row, column, descriptor, &isnull) : static_cast<Datum>(0);
        if (isnull) continue;
        LockRelationOid(DatumGetObjectId(source), ShareRowExclusiveLock);
        find_all_inheritors(DatumGetObjectId(source), ShareRowExclusiveLock, nullptr);
    }
}

// A change of one of our own tables.
void note_own_table(const TriggerData& data, OwnRelation table) {
    const bool truncated = TRIGGER_FIRED_BY_TRUNCATE(data.tg_event);
    const HeapTuple rows[] = {truncated ? nullptr : row_before(data), truncated ? nullptr : row_after(data)};
    if (table == OwnRelation::kApplication) {
        const int text = SPI_fnumber(RelationGetDescr(data.tg_relation), "prompt");
        if (truncated)
            note_change(Tag(TagKind::kAll));
        else if (!rows[0] || !rows[1] || text <= 0 ||
                 !same_bytes(rows[0], rows[1], RelationGetDescr(data.tg_relation), text))
            note_change(Tag(TagKind::kApplication));
        return;
    }
    registry::forget();
    if (rows[1]) lock_registered(data.tg_relation, rows[1]);
    if (table == OwnRelation::kAttachment) {
        note_change(Tag(TagKind::kAll));
        return;
    }
    // What the namespaces are; and the values of those whose definition or watches change.
    note_change(Tag(TagKind::kNamespace));
    if (table == OwnRelation::kReader) return;
    for (const HeapTuple row : rows)
        if (const auto name = row ? namespace_of(data.tg_relation, row) : std::nullopt)
            note_change(Tag(TagKind::kNamespace, *name));
}

}  // namespace

PC_FUNCTION(pc_source_changed) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("prompt_cache._source_changed() can only be called as a trigger"),
                        errhint("prompt_cache.attach() makes the triggers.")));
    const auto* data = reinterpret_cast<const TriggerData*>(fcinfo->context);
    if (const auto own = own_relation_of(data->tg_relation))
        note_own_table(*data, *own);
    else
        note_source(*data);
    return PointerGetDatum(nullptr);
}

}  // namespace prompt_cache
