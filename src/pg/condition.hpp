// An error without its message. The message, detail, hint and context of an error that a builder, an expression or a
// stored row raises may hold parts of rows. Whoever may look at the cache, and not into it, is shown this.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

// "SQLSTATE 22P02 (invalid_text_representation)", in the current memory context.
const char* describe_code(int code);

}  // namespace prompt_cache
