#include "cache/building.hpp"

#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"
#include "pg/rte.hpp"

namespace prompt_cache::building {

namespace {

constexpr unsigned kMaxNesting = 32;

BuildLocal* innermost_local = nullptr;

// Gaps that this backend has told of, so that each is told once.
struct ToldLocal {
    static constexpr std::size_t kMax = 64;
    std::array<std::uint64_t, kMax> gaps{};
    std::size_t count = 0;

    bool is_new(std::uint32_t wiring, Oid relation) noexcept {
        const std::uint64_t gap = static_cast<std::uint64_t>(wiring) << 32 | relation;
        if (std::find(gaps.begin(), gaps.begin() + count, gap) != gaps.begin() + count) return false;
        if (count < kMax) gaps[count++] = gap;
        return true;
    }
} told_local;

void tell(const BuildLocal& build, Oid relation, Namespace::Watch watch) {
    partition::note_gap(build.space.partition, build.space.wiring(), relation);
    if (!told_local.is_new(build.space.wiring(), relation)) return;
    const char* table =
        quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), get_rel_name(relation));
    const char* name = build.space.name().data();
    if (watch == Namespace::Watch::kNone)
        ereport(NOTICE,
                (errmsg("the builder of namespace \"%s\" reads table %s, which nothing watches", name, table),
                 errdetail("Such an entry is only as fresh as its time to live."),
                 errhint("SELECT prompt_cache.watch(%s, %s);", quote_literal_cstr(table), quote_literal_cstr(name))));
    else
        ereport(NOTICE,
                (errmsg("the builder of namespace \"%s\" reads columns of table %s that its watch leaves out",
                        name, table),
                 errdetail("Such an entry is only as fresh as its time to live."),
                 errhint("Name these columns in prompt_cache.watch(), or none of them for all.")));
}

void note_relation(BuildLocal& build, const ReadRelation& read) {
    if (read.kind == RELKIND_VIEW || read.kind == RELKIND_COMPOSITE_TYPE) return;
    const Namespace::Watch watch = build.space.watches(read.relation, read.columns);
    if (watch == Namespace::Watch::kAll) return;
    if (read.relation == own_relation(OwnRelation::kApplication)) {
        build.tags.add(Tag(TagKind::kApplication));
        return;
    }
    if (get_rel_persistence(read.relation) == RELPERSISTENCE_TEMP) {
        build.exact = false;  // the session's own
        return;
    }
    build.has_gap = true;
    tell(build, read.relation, watch);
}

}  // namespace

BuildLocal* current() noexcept {
    return in_own_query() ? nullptr : innermost_local;
}

void begin(BuildLocal& build) {
    unsigned nesting = 0;
    for (const BuildLocal* other = innermost_local; other; other = other->outer) {
        const bool same = other->space.wiring() == build.space.wiring() && other->key == build.key;
        if (same || ++nesting == kMaxNesting)
            ereport(ERROR,
                    (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
                     errmsg(same ? "the builder of namespace \"%s\" needs its own value"
                                 : "the builder of namespace \"%s\" is nested too deep",
                            build.space.name().data()),
                     errdetail(same ? "To build the value of a key it fetches the value of the same key."
                                    : "At most %u builds are nested.",
                               kMaxNesting),
                     errhint("Builders may fetch from each other, but not in a circle.")));
    }
    build.outer = innermost_local;
    innermost_local = &build;
}

void end(const BuildLocal& build) noexcept {
    innermost_local = build.outer;
}

BuildLocal* begin_lookup() noexcept {
    BuildLocal* around = current();
    if (around) around->unfinished++;
    return around;
}

void end_lookup(BuildLocal* around) noexcept {
    if (around) around->unfinished--;
}

void note_lookup(BuildLocal* around, Snapshot snapshot, Bypass bypass) noexcept {
    if (around && (bypass != Bypass::kNone || identity_of(snapshot) != around->snapshot)) around->exact = false;
}

void note_query(const QueryDesc& query, bool writes) {
    BuildLocal* build = current();
    if (!build) return;
    // What SELECT FOR UPDATE finds depends on who holds the rows, and may be newer than the snapshot.
    const bool locks = query.plannedstmt->rowMarks != NIL;
    if (writes || locks || !query.snapshot || identity_of(query.snapshot) != build->snapshot) build->exact = false;
    for_each_relation(*query.plannedstmt, [&](const ReadRelation& read) { note_relation(*build, read); });
}

}  // namespace prompt_cache::building
