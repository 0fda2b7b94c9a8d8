#include "cache/building.hpp"

#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"
#include "pg/rte.hpp"

extern "C" {
#include "utils/hsearch.h"
#include "utils/plancache.h"
}

namespace prompt_cache::building {

namespace {

constexpr unsigned kMaxNesting = 32;

BuildLocal* innermost_local = nullptr;

// Gaps that this backend has reported, so that each is reported once.
struct ReportedLocal {
    static constexpr std::size_t kMax = 64;
    std::array<GapShared, kMax> gaps{};
    std::size_t count = 0;

    bool is_new(const GapShared& gap) noexcept {
        if (std::find(gaps.begin(), gaps.begin() + count, gap) != gaps.begin() + count) return false;
        if (count < kMax) gaps[count++] = gap;
        return true;
    }
} reported_local;

// Is it to be reported?
bool note_gap(const BuildLocal& build, const GapShared& gap) {
    partition::note_gap(build.space.partition, gap);
    return reported_local.is_new(gap);
}

constexpr const char* kLivesForItsTime = "Such an entry is only as fresh as its time to live.";

void report_relation(const BuildLocal& build, Oid relation, Namespace::Watch watch) {
    if (!note_gap(build, {build.space.wiring(), relation, GapShared::Kind::kRelation, HiddenInput::kNone})) return;
    const char* table =
        quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), get_rel_name(relation));
    const char* name = build.space.name().data();
    if (watch == Namespace::Watch::kNone)
        ereport(NOTICE,
                (errmsg("the builder of namespace \"%s\" reads table %s, which nothing watches", name, table),
                 errdetail("%s", kLivesForItsTime),
                 errhint("SELECT prompt_cache.watch(%s, %s);", quote_literal_cstr(table), quote_literal_cstr(name))));
    else
        ereport(NOTICE,
                (errmsg("the builder of namespace \"%s\" reads columns of table %s that its watch leaves out",
                        name, table),
                 errdetail("%s", kLivesForItsTime),
                 errhint("Name these columns in prompt_cache.watch(), or none of them for all.")));
}

const char* hint_for(HiddenInput input, const char* space) {
    switch (input) {
        case HiddenInput::kClock:
            return "Put the time into the key, cut to what is needed of it.";
        case HiddenInput::kChance:
            return "Put what is drawn into the key.";
        case HiddenInput::kSession:
            return "Put what it reads into the key, or pass it from your program.";
        default:
            return psprintf("When that has changed: SELECT prompt_cache.forget_namespace(%s);", quote_literal_cstr(space));
    }
}

void report_function(const BuildLocal& build, CalledFunction called, HiddenInput input) {
    const bool has_oid = OidIsValid(called.function);
    if (!note_gap(build, {build.space.wiring(), has_oid ? called.function : static_cast<std::uint32_t>(called.keyword),
                          has_oid ? GapShared::Kind::kFunction : GapShared::Kind::kKeyword, input}))
        return;
    const char* name = build.space.name().data();
    ereport(NOTICE, (errmsg("the builder of namespace \"%s\" calls %s, which %s", name, name_of(called), describe(input)),
                     errdetail("%s", is_of_caller(input) ? "The value is not cached: for another caller it would be another one."
                                                         : kLivesForItsTime),
                     errhint("%s", hint_for(input, name))));
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
    report_relation(build, read.relation, watch);
}

void note_function(BuildLocal& build, CalledFunction called, HiddenInput input) {
    if (!is_of_caller(input))
        build.has_gap = true;
    else if (core::applies(core::Rule::kCallersSession))
        build.exact = false;
    report_function(build, called, input);
}

// What expressions of PL/pgSQL were seen to read when they were planned in this backend, by the wiring of the namespace
// whose value was being built. An expression may be part of a function that other builders call too: these find it
// planned. So where one namespace has seen something for the first time, the others build with new plans once. Not at
// every such expression, or two builders that alternate would plan for ever.
struct PlannedLocal {
    std::uint32_t wiring;  // the key of the table
    bool has_gap;
    bool of_caller;
    std::uint32_t plans;  // value of plans_local as of which it has built with new plans
};
HTAB* planned_local = nullptr;
std::uint32_t plans_local = 1;

PlannedLocal& planned_of(std::uint32_t wiring) {
    if (!planned_local) {
        HASHCTL control{};
        control.keysize = sizeof(PlannedLocal::wiring);
        control.entrysize = sizeof(PlannedLocal);
        planned_local = hash_create("prompt_cache planned", 16, &control, HASH_ELEM | HASH_BLOBS);
    }
    bool found = false;
    auto* planned = static_cast<PlannedLocal*>(hash_search(planned_local, &wiring, HASH_ENTER, &found));
    if (!found) *planned = {.wiring = wiring, .has_gap = false, .of_caller = false, .plans = 0};
    return *planned;
}

void begin_with_new_plans(BuildLocal& build) {
    PlannedLocal& planned = planned_of(build.space.wiring());
    build.has_gap |= planned.has_gap;
    if (planned.of_caller && core::applies(core::Rule::kCallersSession)) build.exact = false;
    if (planned.plans == plans_local) return;
    planned.plans = plans_local;
    ResetPlanCache();
}

void note_expression(BuildLocal& build, const PlannedStmt& plan) {
    visit_hidden_inputs(
        plan,
        [](void* context, CalledFunction called, HiddenInput input) {
            auto& build = *static_cast<BuildLocal*>(context);
            note_function(build, called, input);
            PlannedLocal& planned = planned_of(build.space.wiring());
            bool& seen = is_of_caller(input) ? planned.of_caller : planned.has_gap;
            if (seen) return;
            seen = true;
            const bool has_new_plans = planned.plans == plans_local;
            plans_local++;
            if (has_new_plans) planned.plans = plans_local;
        },
        &build);
}

planner_hook_type previous_planner = nullptr;

PlannedStmt* planner_hook_of_builds(PC_PLANNER_PARAMETERS) {
    PlannedStmt* plan = previous_planner ? previous_planner(PC_PLANNER_ARGUMENTS) : standard_planner(PC_PLANNER_ARGUMENTS);
    if (BuildLocal* build = current())
        if (is_simple_expression(*plan)) note_expression(*build, *plan);
    return plan;
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
    begin_with_new_plans(build);
    // It is called without a plan, and may be one of PostgreSQL's own.
    const Oid builder = build.space.builder();
    if (const HiddenInput input = inputs_of(builder).hidden; input != HiddenInput::kNone)
        note_function(build, {.function = builder}, input);
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
    // Rows of a cursor are asked for one by one. One that was made at the place of another has not been executed.
    if (!build || (&query == build->noted && query.already_executed)) return;
    build->noted = &query;
    // What SELECT FOR UPDATE finds depends on who holds the rows, and may be newer than the snapshot.
    const bool locks = query.plannedstmt->rowMarks != NIL;
    if (writes || locks || !query.snapshot || identity_of(query.snapshot) != build->snapshot) build->exact = false;
    for_each_relation(*query.plannedstmt, [&](const ReadRelation& read) { note_relation(*build, read); });
    visit_hidden_inputs(
        *query.plannedstmt,
        [](void* context, CalledFunction called, HiddenInput input) {
            note_function(*static_cast<BuildLocal*>(context), called, input);
        },
        build);
}

void note_show(const char* setting) {
    BuildLocal* build = current();
    const HiddenInput input = hidden_input_of_setting(setting);
    if (build && input != HiddenInput::kNone) note_function(*build, {.function = F_CURRENT_SETTING_TEXT}, input);
}

void install_planner_hook() {
    previous_planner = planner_hook;
    planner_hook = planner_hook_of_builds;
}

}  // namespace prompt_cache::building
