// Making a value of a namespace: its builder is run, and what it depended on is learned.
#pragma once

#include "cache/value.hpp"

namespace prompt_cache {

// The builder's value in the current memory context, null for NULL. `build` learns what it hangs on, and keeps
// the namespace as it was when the build began: afterwards the context refers to that. An error of the builder is
// passed on untouched.
text* build_value(ValueContext& context, std::string_view key, BuildLocal& build);

}  // namespace prompt_cache
