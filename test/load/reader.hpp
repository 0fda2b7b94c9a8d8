// Reader threads: look up many keys by one statement, compare each with the oracle inside that statement.
#pragma once

#include "history.hpp"
#include "schema.hpp"
#include "session.hpp"

namespace load {

class Reader {
  public:
    Reader(const Options& options, History& history, Tally& tally, Violations& violations, int number,
           bool standby);
    void run_until(const std::atomic<bool>& stop);

  private:
    struct Snapshot {  // when the statement's snapshot may have been taken
        Nanos began = 0;
        Nanos ended = 0;  // 0: at the end of the statement
    };

    void one_round();
    void read_committed(int statements);
    void repeatable_read(bool read_only, int pause_ms);
    void deferrable();
    void as_role();
    void without_memory();
    std::vector<Id> pick_keys();
    // Returns a hash of all the prompts. With a list of states, remembers a part of what was read.
    std::string batch(const std::vector<Id>& keys, const Snapshot& snapshot, bool repeatable);
    void remember(const std::string& samples, const Snapshot& snapshot, bool repeatable);
    void report(const std::string& kind, const std::string& text) const;

    const Options& options_;
    History& history_;
    Tally& tally_;
    Violations& violations_;
    bool standby_;
    Random random_;
    Session session_;
};

// Parses "(u:42:v7)" of the layer `letter` in what a read returned as samples.
Id version_in(const std::string& text, char letter, Id* key = nullptr);

}  // namespace load
