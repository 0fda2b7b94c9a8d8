// One schedule around put() and lease(): steps of three sessions, played one after the other, and what they may leave
// behind. After each commit every value that the cache gives out is compared with the tables.
//
// Three namespaces: "plain" is filled by put() alone; "built" has a builder; the builder of "outer" fetches from "built".
// A value is made of a row of its key (watched by key), a row of its group (watched without a key) and, in "plain", a note,
// which nothing watches: who changes it calls forget_tag().
//
// The application is honest about "plain": it puts what it has read after lease() had returned, by a statement whose
// snapshot was taken after it too, or, without a lease, what is true as of the statement that puts. What it has read in a
// transaction with changes of its own is put by that transaction or by nobody. About namespaces with a builder it may lie.
//
// No step waits for another session: rows that an open transaction has changed are left alone.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>

#include "session.hpp"

namespace load {

enum class PutStepKind {
    kBegin,
    kCommit,
    kRollback,
    kPrepare,
    kEndPrepared,
    kSavepoint,
    kRollbackTo,
    kRelease,
    kLease,
    kRead,
    kPutLeased,
    kSetThenPutLeased,
    kPutNow,
    kSetThenPut,
    kPutThenSet,
    kCtePut,
    kReturningPut,
    kThrough,
    kLeaseWritePut,
    kWriteLeasePut,
    kUndonePut,
    kNestedPut,
    kOneStatementLease,
    kCursor,
    kFetchCursor,
    kSetItem,
    kSetGroup,
    kSetNote,
    kOrderNow,
    kOrderLate,
    kOrderPut,
    kRemoveItem,
    kForget,
    kLook,
    kPoison,
    kOldSnapshot,
    kCount
};

struct PutStep {
    PutStepKind kind;
    int session;
    int space;
    int key;
    int variant;  // 0 to 99
};
using PutSchedule = std::vector<PutStep>;

// The same for the same seed.
PutSchedule random_put_schedule(std::uint64_t seed);

class PutPlayer {
  public:
    static constexpr int kSessions = 3;
    static constexpr int kSpaces = 3;
    static constexpr int kKeys = 3;

    // How a value was put that was found after the commit.
    enum Way { kLeased = 1, kAfterOwnChange = 2, kWithBuilder = 4, kWays = 8 };
    struct Counts {
        std::int64_t steps = 0, puts = 0, accepted = 0, compared = 0;
        std::int64_t published[kWays] = {};
    };

    explicit PutPlayer(const std::string& conninfo);
    void set_up();
    // What was wrong first; empty: nothing.
    std::string play(const PutSchedule& schedule);

    Counts counts;
    std::vector<std::string> log;  // of the last schedule

  private:
    struct Transaction {
        bool open = false, repeatable = false, own = false, cursor = false;
        int serial = 0;
        int snapshot_at = 0;  // the step of a REPEATABLE READ transaction's snapshot
        int savepoints = 0;
        std::set<std::string> rows;  // it has changed
    };
    struct Application {  // what it holds of one value
        std::string lease;
        int lease_session = 0, lease_serial = 0, lease_at = 0;
        std::optional<std::string> value;  // as a literal
        int read_session = 0, read_serial = 0;
        bool read_own = false, read_old = false;
    };
    struct Accepted {
        int space, key, way;
    };

    void begin_schedule();
    void end_schedule();
    void step(const PutStep& step);
    std::optional<Rows> run(int session, const std::string& sql);
    // The same for what changes these rows; false: somebody else has changed one, and nothing is done.
    bool change(int session, const std::set<std::string>& rows, const std::string& sql);
    bool may_change(int session, const std::set<std::string>& rows);
    void note_change(int session, const std::set<std::string>& rows);
    void put(int session, const PutStep& step, const std::string& sql, bool leased, const std::set<std::string>& rows = {});
    void ended(int session, bool committed);
    void compare(Session& reader, const char* who, bool fetch);
    void look(const PutStep& step);
    void put_leased(const PutStep& step, bool after_change);
    void end_prepared(bool commit);

    std::string key(int number) const { return std::to_string(first_key_ + number); }
    std::string put_sql(const PutStep& step, const std::string& value, const std::string& lease = "") const;
    std::string true_value(const PutStep& step) const;
    std::string set_sql(const PutStep& step);
    std::string next_value() { return "'v" + std::to_string(++values_) + "'"; }
    bool in_transaction(int session, int serial) const {
        return transactions_[session].open && transactions_[session].serial == serial;
    }

    std::vector<std::unique_ptr<Session>> sessions_;
    Session checker_, old_;
    Transaction transactions_[kSessions];
    Application applications_[kSpaces][kKeys];
    std::vector<Accepted> accepted_[kSessions];
    std::set<std::string> prepared_rows_;
    std::string prepared_;  // the name of a prepared transaction
    bool has_old_ = false;
    std::string wrong_;
    int first_key_ = 0, serial_ = 0, values_ = 0, at_ = 0;
};

}  // namespace load
