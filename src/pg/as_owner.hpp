// Running a query as somebody else, so that no right, row policy or setting of the caller's can shape a value
// that another caller gets.
//
// Not a guard object: a live destructor and an ereport never share a scope. If an error leaves the stretch
// between begin and end, the (sub)transaction's abort restores the user and the settings.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

struct AsOwnerLocal {
    Oid user;
    int context;
    int guc_level;
};

inline AsOwnerLocal begin_as_owner(Oid owner) {
    AsOwnerLocal before;
    GetUserIdAndSecContext(&before.user, &before.context);
    SetUserIdAndSecContext(owner, before.context | SECURITY_RESTRICTED_OPERATION);
    before.guc_level = 0;
    if (row_security) {
        // GUC_ACTION_SAVE is what a function's SET clause does; it is allowed in parallel mode.
        before.guc_level = NewGUCNestLevel();
        set_config_option("row_security", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    }
    return before;
}

inline void end_as_owner(const AsOwnerLocal& before) {
    if (before.guc_level > 0) AtEOXact_GUC(true, before.guc_level);
    SetUserIdAndSecContext(before.user, before.context);
}

}  // namespace prompt_cache
