// What happened, for the pass after the run: who committed which version when, and who read which.
//
// Every prompt tells its version: "(u:<key>:v<version>)", "(t:...)", "(a:0:v...)". A version is taken while
// its key is locked until the commit, so the versions of a key are in the order of their commits. A state of
// a key may be seen by a read if its COMMIT was sent before the read ended, and no later state was
// acknowledged before the read began. That one rule holds read-your-writes, freshness, no rolled-back version
// and nothing from the future.
#pragma once

#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common.hpp"

namespace load {

enum class Kind : std::uint8_t { kUser, kTenant, kApplication };

struct State {
    Kind kind = Kind::kUser;
    Id key = 0;
    Id version = 0;
    bool present = true;  // false: the row went away
};

inline constexpr Id kAbsent = -1;
inline constexpr Id kUnknown = -2;  // no such layer in the prompt

struct Read {
    int session = 0;
    Nanos began = 0;  // before the snapshot was taken
    Nanos ended = 0;  // after it was taken
    bool repeatable =
        false;  // of a snapshot that outlives the statement: not bound to be newer than the last
    Id key = 0;
    Id user_version = kUnknown;
    Id tenant_key = 0;
    Id tenant_version = kUnknown;
    Id application_version = kUnknown;
};

class History {
  public:
    explicit History(std::size_t most_reads) : most_reads_(most_reads) {}

    // `acknowledged` 0: nobody knows whether it was committed.
    void committed(const std::vector<State>& states, Nanos sent, Nanos acknowledged);
    void read(const std::vector<Read>& reads);

    // The offline pass; returns how many reads it judged.
    std::int64_t judge(Violations& violations);
    std::size_t commits() const { return commit_count_; }

  private:
    struct Committed {
        Id version;
        Nanos sent;
        Nanos acknowledged;
        bool present;
        Nanos replaced = 0;  // when the first of the later states was acknowledged; set by judge()
    };
    using Versions = std::vector<Committed>;

    static std::uint64_t name(Kind kind, Id key) {
        return static_cast<std::uint64_t>(key) * 4 + static_cast<int>(kind);
    }
    void judge_state(Violations& violations, const Read& read, Kind kind, Id key, Id version);
    void judge_pair(Violations& violations, const Read& read);

    std::mutex mutex_;
    std::size_t most_reads_;
    std::vector<Read> reads_;
    std::size_t commit_count_ = 0;
    std::unordered_map<std::uint64_t, Versions> versions_;
    std::unordered_map<std::uint64_t, std::vector<Id>> pairs_;  // user and tenant written by one transaction
};

}  // namespace load
