// The relations that a planned query reads, and which of their columns.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#if PG_VERSION_NUM >= 160000
#include "parser/parse_relation.h"
#endif
}

namespace prompt_cache {

struct ReadRelation {
    Oid relation;
    char kind;
    std::span<const AttrNumber> columns;  // 0: the whole row, negative: system columns
};

inline const Bitmapset* selected_columns(const PlannedStmt& query, const RangeTblEntry& entry) {
#if PG_VERSION_NUM >= 160000
    if (entry.perminfoindex == 0) return nullptr;
    return getRTEPermissionInfo(query.permInfos, const_cast<RangeTblEntry*>(&entry))->selectedCols;
#else
    static_cast<void>(query);
    return entry.selectedCols;
#endif
}

// Views among them too, beside what they read. From 16 on partitions and inheritance children name no columns. A
// partition's are those of its root, which is among the relations, and whose watches are its own too. Another
// child counts as read whole.
template <typename Visit>
void for_each_relation(const PlannedStmt& query, Visit visit) {
    ListCell* cell;
    foreach (cell, query.rtable) {
        const auto* entry = static_cast<const RangeTblEntry*>(lfirst(cell));
        if (entry->rtekind != RTE_RELATION) continue;
        AttrNumber columns[MaxHeapAttributeNumber - FirstLowInvalidHeapAttributeNumber + 1];  // system columns too
        std::size_t count = 0;
        const Bitmapset* selected = selected_columns(query, *entry);
        for (int i = bms_next_member(selected, -1); i >= 0; i = bms_next_member(selected, i))
            columns[count++] = static_cast<AttrNumber>(i + FirstLowInvalidHeapAttributeNumber);
#if PG_VERSION_NUM >= 160000
        if (entry->perminfoindex == 0 && !get_rel_relispartition(entry->relid)) columns[count++] = 0;
#endif
        visit(ReadRelation{entry->relid, entry->relkind, {columns, count}});
    }
}

}  // namespace prompt_cache
