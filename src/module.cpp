// Loading: the magic block, settings and hooks. Nothing here may raise an error: LOAD and pg_upgrade depend
// on it.
#include "cache/builder.hpp"
#include "cache/building.hpp"
#include "cache/shared.hpp"
#include "cache/transaction.hpp"
#include "cache/writer.hpp"
#include "cache/memory.hpp"
#include "cache/partition.hpp"
#include "cache/put.hpp"
#include "cache/saving.hpp"
#include "pg/catalog.hpp"
#include "pg/postgres.hpp"
#include "pg/settings.hpp"
#include "pg/temporary_objects.hpp"
#include "redis_worker.hpp"
#include "tier/feed.hpp"
#include "worker.hpp"

#pragma GCC visibility push(default)
extern "C" {
PG_MODULE_MAGIC;
void _PG_init(void);
}
#pragma GCC visibility pop

namespace prompt_cache {

namespace {

object_access_hook_type previous_access_hook = nullptr;

// DROP EXTENSION takes the wiring along, and DROP DATABASE everything: their entries are freed at once, which
// is harmless if the drop is rolled back, and for the extension everybody else's copies die at commit.
void object_access(ObjectAccessType access, Oid catalog, Oid object, int part, void* argument) {
    if (previous_access_hook) previous_access_hook(access, catalog, object, part, argument);
    if (access == OAT_POST_CREATE || access == OAT_POST_ALTER || access == OAT_DROP) temporary_objects::note(catalog, object);
    // A database that is made may have the oid of one that is gone, in which a last session stored after the
    // drop.
    if (catalog == DatabaseRelationId && (access == OAT_DROP || access == OAT_POST_CREATE) && shared) {
        memory::drop_database(object);
        partition::forget_database(object);
        saving::forget_database(object);
        feed::forget(object);
        if (access == OAT_DROP) note_database_dropped(object);
    }
    if (access != OAT_DROP) return;
    if (catalog == RelationRelationId && part == 0 && get_rel_relkind(object) == RELKIND_VIEW &&
        get_rel_persistence(object) != RELPERSISTENCE_TEMP)
        note_view_dropped();
    if (catalog != ExtensionRelationId) return;
    const char* name = get_extension_name(object);
    if (!name || strcmp(name, kExtension) != 0) return;
    note_extension_dropped();
    feed::forget(MyDatabaseId);
    if (shared) memory::drop_database(MyDatabaseId);
}

}  // namespace

void load() {
    const bool preloading = process_shared_preload_libraries_in_progress;
    settings::define(preloading);
    if (preloading) {
        request_shared_memory();
        register_launcher();
        register_redis_worker();
    }
    install_writer();
    install_puts();
    install_transaction_hooks();
    install_layer_builder();
    building::install_planner_hook();
    previous_access_hook = object_access_hook;
    object_access_hook = object_access;
}

}  // namespace prompt_cache

void _PG_init(void) {
    prompt_cache::load();
}
