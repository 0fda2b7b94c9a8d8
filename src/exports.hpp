// Functions that SQL can call: C linkage, visible in the library although it is built with hidden visibility,
// and registered with the server's calling convention.
#pragma once

#include "pg/postgres.hpp"

#define PC_FUNCTION(name)                                                                                   \
    extern "C" {                                                                                            \
    extern PGDLLEXPORT __attribute__((visibility("default"))) const Pg_finfo_record* pg_finfo_##name(void); \
    __attribute__((visibility("default"))) const Pg_finfo_record* pg_finfo_##name(void) {                   \
        static const Pg_finfo_record record = {1};                                                          \
        return &record;                                                                                     \
    }                                                                                                       \
    __attribute__((visibility("default"))) Datum name(PG_FUNCTION_ARGS);                                    \
    }                                                                                                       \
    Datum name([[maybe_unused]] PG_FUNCTION_ARGS)
