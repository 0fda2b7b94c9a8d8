// The schema of the load, and the texts in it.
#pragma once

#include <string>

#include "history.hpp"
#include "session.hpp"

namespace load {

std::string user_text(const Options& options, Id key, Id version);
std::string tenant_text(Id key, Id version);
std::string application_text(Id version);

// Makes everything anew, and tells the history what there is.
void create_schema(const Options& options, Session& session, History& history);

// The prompt of a user put together by plain SQL, over u (users), t (tenants) and a
// (prompt_cache.application): an oracle that shares no line with the product. build() is compared too, in a
// part of the reads.
extern const char* const kOracle;

}  // namespace load
