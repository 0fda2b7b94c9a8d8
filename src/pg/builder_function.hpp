// A function of the user's that is a builder: whose rights it runs with, and where it looks names up.
//
// A builder without a search_path of its own runs with its schema as search_path. Whoever may create objects there could
// offer a function or an operator that fits a call in the builder's body better, and it would run with the rights of
// the builder's owner. So nobody may but those who can act as the owner anyway. Whoever gives the function a search_path
// of its own has named the schemas that are trusted.
//
// As the catalogs are now, not as a snapshot sees them: names are looked up as of now too. Owner and function come from
// one row of pg_proc, so that no rename or change of the owner can make code of one role run as another.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

// Texts lie in the current memory context.
struct BuilderFunction {
    Oid owner = InvalidOid;
    const char* search_path = "";   // to be set while it runs
    const char* problem = nullptr;  // why it must not run; null if it may
    const char* hint = nullptr;     // a statement that ends the problem, where there is one
};

BuilderFunction look_up_builder(Oid function);

}  // namespace prompt_cache
