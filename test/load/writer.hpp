// Writer threads: one transaction of a random kind at a time, each with its keys locked, so that the versions
// of a key are in the order of their commits. What is locked by somebody else is left alone: nothing waits,
// nothing deadlocks over keys.
#pragma once

#include <functional>

#include "history.hpp"
#include "schema.hpp"
#include "session.hpp"

namespace load {

class Writer;

struct WriteKind {
    const char* name;
    int weight;
    void (Writer::*run)();
};

class Writer {
  public:
    Writer(const Options& options, History& history, Tally& tally, Violations& violations, int number);
    void run_until(const std::atomic<bool>& stop);
    static bool knows(const std::string& kind);

  private:
    static const std::vector<WriteKind>& kinds();
    struct NotNow {};  // a key is taken, or the row is not there: another transaction will do

    // The frame of a transaction.
    void begin();
    void lock_all();  // nobody else writes; for what touches every row
    void lock(const std::vector<Id>& users, const std::vector<Id>& tenants, bool application = false);
    void finish();  // commits, or now and then rolls back
    void commit();
    void rollback();
    void prepare_and_end();
    void end_prepared();
    void settle_prepared();
    void settle_triggers();
    void read_back(bool inside);
    void look_first(Id key);

    // Pieces.
    Id a_user();  // a base key
    Id a_tenant();
    Id present_user(Id base, Id* tenant = nullptr);  // the key under which it is there now
    Id present_tenant(Id base);
    void write_user(Id key);
    void write_tenant(Id key);
    void execute(const std::string& sql, const Parameters& parameters = {});
    bool changes_one(const std::string& sql, const Parameters& parameters);
    void note(Kind kind, Id key, bool present = true) { states_.push_back({kind, key, version_, present}); }
    static std::string str(Id id) { return std::to_string(id); }
    void sleep_ms(std::int64_t ms);

    // Kinds, in writes.cpp and writes_rare.cpp.
    void user();
    void tenant();
    void both();
    void application();
    void unrelated();
    void savepoint();
    void subtransactions();
    void prepared();
    void truncate();
    void copy();
    void merge();
    void upsert();
    void cascade_update();
    void cascade_delete();
    void move();
    void swap();
    void rename();
    void reinsert();
    void empty_layer();
    void replica();
    void vacuum();
    void ddl();
    void long_writer();
    void triggers_off();
    void cache_calls();
    void cancel();
    void in_one_statement();
    void partition_ddl();
    void attach();

    const Options& options_;
    History& history_;
    Tally& tally_;
    Violations& violations_;
    Random random_;
    Session session_;
    Session other_;  // idle but for reading what was just written
    int number_;
    Id version_ = 0;  // of the transaction under way
    bool may_roll_back_ = true;
    std::vector<State> states_;
    std::string prepared_name_;  // a transaction that waits for its COMMIT PREPARED; empty: none
    Nanos prepared_sent_ = 0;
    bool triggers_off_ = false;  // committed so, or about to be
};

}  // namespace load
