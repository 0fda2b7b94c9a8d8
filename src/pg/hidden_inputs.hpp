// What functions read besides their arguments, their tables and the settings that are fixed for a builder: the
// clock, the catalogs, the session. A change of that changes a value, and no trigger reports it.
//
// PostgreSQL's own functions are classified by name: names are the same in every version, and one that a newer
// version adds counts as reading the server's state until it is listed. IMMUTABLE ones read nothing. The bodies
// of SQL and PL/pgSQL functions are queries and expressions that are looked at when they are planned. Other
// functions of users and extensions are believed: STABLE, they read tables; VOLATILE, anything.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "nodes/primnodes.h"
}

namespace prompt_cache {

enum class HiddenInput : std::uint8_t {
    kNone,
    kCatalogs,  // names and rights among them, and all that is not listed
    kSequence,
    kSize,
    kClock,
    kChance,
    kFile,
    kLargeObject,
    kConnection,
    kVolatile,  // by declaration, and it cannot be looked into
    kSession,   // the caller, or what only his session has
};

// Depends the value on who calls? Otherwise only on when.
inline bool is_of_caller(HiddenInput input) noexcept {
    return input == HiddenInput::kSession;
}

// "reads the clock", of a function.
const char* describe(HiddenInput input) noexcept;

// STABLE functions of PostgreSQL's own whose results follow from arguments and settings alone.
bool is_steady(Oid function) noexcept;

struct FunctionInputs {
    HiddenInput hidden;
    bool prints;  // it makes text of arguments of any type, by the functions of these types
};

FunctionInputs inputs_of(Oid function);
HiddenInput hidden_input_of(SQLValueFunctionOp function) noexcept;

// Of current_setting(): none where the setting is fixed for a builder.
HiddenInput hidden_input_of_setting(const char* setting) noexcept;

// As users write it.
const char* name_of(SQLValueFunctionOp function) noexcept;

}  // namespace prompt_cache
