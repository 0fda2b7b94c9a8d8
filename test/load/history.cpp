#include "history.hpp"

#include <algorithm>
#include <limits>

namespace load {

namespace {

constexpr Nanos kNever = std::numeric_limits<Nanos>::max();

const char* letter(Kind kind) {
    return kind == Kind::kUser ? "u" : kind == Kind::kTenant ? "t" : "a";
}

std::string describe(const Read& read) {
    return "session " + std::to_string(read.session) + (read.repeatable ? " (RR)" : "") + " read user " +
           std::to_string(read.key) + ": u v" + std::to_string(read.user_version) +
           ", t:" + std::to_string(read.tenant_key) + " v" + std::to_string(read.tenant_version) + ", a v" +
           std::to_string(read.application_version) + " at " + std::to_string(read.began / 1000) + "-" +
           std::to_string(read.ended / 1000) + " us";
}

std::uint64_t pair_name(Id user, Id tenant) {
    return static_cast<std::uint64_t>(user) * 1000003u + static_cast<std::uint64_t>(tenant);
}

}  // namespace

void History::committed(const std::vector<State>& states, Nanos sent, Nanos acknowledged) {
    const std::lock_guard guard(mutex_);
    commit_count_++;
    for (const State& state : states)
        versions_[name(state.kind, state.key)].push_back(
            {state.version, sent, acknowledged ? acknowledged : kNever, state.present});
    if (!acknowledged) return;
    for (const State& user : states)
        for (const State& tenant : states)
            if (user.kind == Kind::kUser && tenant.kind == Kind::kTenant && user.present && tenant.present &&
                user.version == tenant.version)
                pairs_[pair_name(user.key, tenant.key)].push_back(user.version);
}

void History::read(const std::vector<Read>& reads) {
    const std::lock_guard guard(mutex_);
    if (reads_.size() + reads.size() <= most_reads_) reads_.insert(reads_.end(), reads.begin(), reads.end());
}

void History::judge_state(Violations& violations, const Read& read, Kind kind, Id key, Id version) {
    const auto found = versions_.find(name(kind, key));
    const std::string what = describe(read) + "; " + letter(kind) + ":" + std::to_string(key);
    if (found == versions_.end()) {
        if (version > 0) violations.add("a version that nobody committed", what);
        return;
    }
    const Versions& versions = found->second;
    if (version == kAbsent) {
        auto state = std::partition_point(versions.begin(), versions.end(),
                                          [&](const Committed& s) { return s.replaced < read.began; });
        for (; state != versions.end() && state->sent < read.ended; ++state)
            if (!state->present) return;
        violations.add("an absence that no commit explains", what);
        return;
    }
    const auto state = std::lower_bound(versions.begin(), versions.end(), version,
                                        [](const Committed& s, Id v) { return s.version < v; });
    if (state == versions.end() || state->version != version || !state->present)
        violations.add("a version that nobody committed", what + " v" + std::to_string(version));
    else if (state->sent > read.ended)
        violations.add("a read from the future",
                       what + ", sent at " + std::to_string(state->sent / 1000) + " us");
    else if (state->replaced < read.began)
        violations.add("older than an acknowledged commit",
                       what + ", replaced at " + std::to_string(state->replaced / 1000) + " us");
}

// Versions of a key only grow: each transaction that wrote both must be on one side of both layers.
void History::judge_pair(Violations& violations, const Read& read) {
    const auto found = pairs_.find(pair_name(read.key, read.tenant_key));
    if (found == pairs_.end() || read.user_version < 0 || read.tenant_version < 0) return;
    const std::vector<Id>& pairs = found->second;
    const auto upto = [&](Id version) { return std::upper_bound(pairs.begin(), pairs.end(), version); };
    if (upto(read.user_version) != upto(read.tenant_version))
        violations.add("a fractured read", describe(read));
}

std::int64_t History::judge(Violations& violations) {
    const std::lock_guard guard(mutex_);
    const auto by_version = [](const Committed& a, const Committed& b) { return a.version < b.version; };
    for (auto& [key, versions] : versions_) {
        std::sort(versions.begin(), versions.end(), by_version);
        Nanos first = kNever;
        for (auto state = versions.rbegin(); state != versions.rend(); ++state) {
            state->replaced = first;
            first = std::min(first, state->acknowledged);
        }
    }
    for (auto& [key, versions] : pairs_) std::sort(versions.begin(), versions.end());

    std::unordered_map<std::uint64_t, Id> last;  // per session and key, for reads of fresh snapshots
    for (const Read& read : reads_) {
        judge_state(violations, read, Kind::kUser, read.key, read.user_version);
        if (read.user_version == kAbsent) continue;
        if (read.tenant_version != kUnknown)
            judge_state(violations, read, Kind::kTenant, read.tenant_key, read.tenant_version);
        if (read.application_version != kUnknown)
            judge_state(violations, read, Kind::kApplication, 0, read.application_version);
        judge_pair(violations, read);
        if (read.repeatable) continue;
        Id& before =
            last[static_cast<std::uint64_t>(read.session) << 32 | static_cast<std::uint64_t>(read.key)];
        if (read.user_version < before) violations.add("a read that went back in time", describe(read));
        before = std::max(before, read.user_version);
    }
    return static_cast<std::int64_t>(reads_.size());
}

}  // namespace load
