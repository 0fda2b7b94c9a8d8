// Running a query as somebody else, so that no right, row policy or setting of the caller's can shape a value
// that another caller gets.
//
// Not a guard object: a live destructor and an ereport never share a scope. If an error leaves the stretch
// between begin and end, the (sub)transaction's abort restores the user and the settings.
#pragma once

#include "pg/fixed_settings.hpp"
#include "pg/postgres.hpp"

namespace prompt_cache {

struct AsOwnerLocal {
    Oid user;
    int context;
    int guc_level;
    int own_query_level;
};

// The nesting of (sub)transactions in which a query of the extension's own is running, 0 = none is. What such a
// query reads is not what the user's builder around it reads. An error that ends it ends its subtransaction at
// least; see forget_own_query().
inline int own_query_level = 0;

inline bool in_own_query() noexcept {
    return own_query_level != 0;
}
inline void forget_own_query(int ended_level) noexcept {
    if (own_query_level >= ended_level) own_query_level = 0;
}

inline AsOwnerLocal begin_as_owner(Oid owner) {
    AsOwnerLocal before;
    GetUserIdAndSecContext(&before.user, &before.context);
    SetUserIdAndSecContext(owner, before.context | SECURITY_RESTRICTED_OPERATION);
    before.guc_level = 0;
    if (row_security) {
        before.guc_level = NewGUCNestLevel();
        fix_setting({"row_security", "off"});
    }
    before.own_query_level = own_query_level;
    if (own_query_level == 0) own_query_level = GetCurrentTransactionNestLevel();
    return before;
}

// Of a builder's queries none runs in parallel workers: what functions read there its backend would not see. The
// first of these settings counts when a query is run, the other when it is planned.
inline constexpr FixedSetting kBuilderSettings[] = {
    {"max_parallel_workers", "0"},
    {"max_parallel_workers_per_gather", "0"},
};

// The same for a function that a user wrote: also every setting by which the server turns values into text, and
// the search_path. What it reads counts as its own.
inline AsOwnerLocal begin_as_builder(Oid owner, const char* search_path) {
    AsOwnerLocal before;
    GetUserIdAndSecContext(&before.user, &before.context);
    SetUserIdAndSecContext(owner, before.context | SECURITY_RESTRICTED_OPERATION);
    before.guc_level = fix_settings(search_path);
    for (const FixedSetting& setting : kBuilderSettings) fix_setting(setting);
    before.own_query_level = own_query_level;
    own_query_level = 0;
    return before;
}

inline void end_as_owner(const AsOwnerLocal& before) {
    if (before.guc_level > 0) restore_settings(before.guc_level);
    SetUserIdAndSecContext(before.user, before.context);
    own_query_level = before.own_query_level;
}

}  // namespace prompt_cache
