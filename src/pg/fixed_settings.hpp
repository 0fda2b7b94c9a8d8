// The settings that can shape the text of a value, at fixed values while a value is made: what a cached value
// is must not depend on whose session made it.
//
// Only those that differ are set, which in most sessions is search_path alone. Not a guard object, for the
// same reason as in as_owner.hpp; if an error leaves the stretch between, the (sub)transaction's abort puts
// the settings back.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

struct FixedSetting {
    const char* name;
    const char* value;
};

inline constexpr FixedSetting kFixedSettings[] = {
    {"row_security", "off"},
    {"TimeZone", "UTC"},
    {"DateStyle", "ISO, MDY"},
    {"IntervalStyle", "postgres"},
    {"extra_float_digits", "1"},
    {"bytea_output", "hex"},
    {"lc_monetary", "C"},
    {"lc_numeric", "C"},
    {"lc_time", "C"},
    {"xmlbinary", "base64"},
    {"xmloption", "content"},
    // What shapes literals and queries inside of functions.
    {"array_nulls", "on"},
    {"backslash_quote", "safe_encoding"},
    {"default_text_search_config", "pg_catalog.simple"},
    {"gin_fuzzy_search_limit", "0"},
    {"quote_all_identifiers", "off"},
    {"standard_conforming_strings", "on"},
    {"timezone_abbreviations", "Default"},
    {"transform_null_equals", "off"},
};

inline void fix_setting(const FixedSetting& setting) {
    if (strcmp(GetConfigOption(setting.name, false, false), setting.value) == 0) return;
    // GUC_ACTION_SAVE is what a function's SET clause does; it is allowed in parallel mode.
    set_config_option(setting.name, setting.value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

// Returns what restore_settings() needs.
inline int fix_settings(const char* search_path = "pg_catalog, pg_temp") {
    const int level = NewGUCNestLevel();
    fix_setting({"search_path", search_path});
    for (const FixedSetting& setting : kFixedSettings) fix_setting(setting);
    return level;
}

// What the code in between has set with set_config() goes too, as in every security-restricted operation: the
// caller's session must not go on with another's search_path.
inline void restore_settings(int level) {
    AtEOXact_GUC(false, level);
}

}  // namespace prompt_cache
