// Settings: one variable a setting, named like it. Defined at load; those that size shared memory only while
// the server preloads the library, since PostgreSQL refuses them later.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache::settings {

extern bool memory;          // read tier 1
extern bool database;        // read tier 3
extern int memory_size;      // kB, all of tier 1
extern int slots;            // invalidation slots inside memory_size
extern int memory_ttl;       // seconds, 0 = none
extern int max_value_size;   // kB
extern int build_wait;       // milliseconds, 0 = nobody waits
extern int persist_naptime;  // milliseconds between two looks of the launcher
extern int history;          // rows of the table kept a user
extern int history_max_age;  // seconds
extern int warm_share;       // percent of the memory filled again after a restart
extern bool log_lookups;
extern char* redis_url;        // empty = tier off
extern char* redis_auth_file;  // user and password
extern char* redis_key_file;   // seals values and hides names
extern int redis_timeout;      // milliseconds, for all exchanges of one lookup together
extern int redis_ttl;          // seconds

#ifdef PROMPT_CACHE_TEST
extern bool one_hash;    // all keys have the same hash
extern int hash_secret;  // what seeds the hashes of shared memory, -1 = random
extern char* pause_at;  // the pause point at which this backend waits
#endif

void define(bool preloading);

}  // namespace prompt_cache::settings
