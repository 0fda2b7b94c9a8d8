#include "put_schedule.hpp"

#include <algorithm>

namespace load {

namespace {

const char* const kSpaceNames[PutPlayer::kSpaces] = {"plain", "built", "outer"};

struct Weight {
    PutStepKind kind;
    int weight;
};
using K = PutStepKind;
constexpr Weight kWeights[] = {
    {K::kBegin, 9},       {K::kCommit, 9},        {K::kRollback, 2},      {K::kPrepare, 1},      {K::kEndPrepared, 1},
    {K::kSavepoint, 3},   {K::kRollbackTo, 2},    {K::kRelease, 2},       {K::kLease, 8},        {K::kRead, 8},
    {K::kPutLeased, 8},   {K::kSetThenPutLeased, 2}, {K::kPutNow, 4},     {K::kSetThenPut, 2},   {K::kPutThenSet, 1},
    {K::kCtePut, 1},      {K::kReturningPut, 1},  {K::kThrough, 2},       {K::kLeaseWritePut, 1}, {K::kWriteLeasePut, 2},
    {K::kUndonePut, 1},   {K::kNestedPut, 2},     {K::kOneStatementLease, 1}, {K::kCursor, 2},   {K::kFetchCursor, 3},
    {K::kSetItem, 6},     {K::kSetGroup, 2},      {K::kSetNote, 2},       {K::kOrderNow, 2},     {K::kOrderLate, 1},
    {K::kOrderPut, 1},    {K::kRemoveItem, 1},    {K::kForget, 2},        {K::kLook, 3},         {K::kPoison, 2},
    {K::kOldSnapshot, 1},
};

std::string quote(const std::string& text) {
    return "'" + text + "'";
}

}  // namespace

PutSchedule random_put_schedule(std::uint64_t seed) {
    Random random(seed);
    int sum = 0;
    for (const Weight& one : kWeights) sum += one.weight;
    // Most steps are about one value and made by one session: schedules go wrong where things meet.
    const int session = static_cast<int>(random.below(PutPlayer::kSessions));
    const int space = static_cast<int>(random.below(PutPlayer::kSpaces));
    PutSchedule schedule(static_cast<std::size_t>(6 + random.below(20)));
    for (PutStep& step : schedule) {
        std::int64_t at = random.below(sum);
        for (const Weight& one : kWeights) {
            step.kind = one.kind;
            if ((at -= one.weight) < 0) break;
        }
        step.session = random.percent(65) ? session : static_cast<int>(random.below(PutPlayer::kSessions));
        step.space = random.percent(85) ? space : static_cast<int>(random.below(PutPlayer::kSpaces));
        step.key = random.percent(85) ? 0 : static_cast<int>(random.below(PutPlayer::kKeys));
        step.variant = static_cast<int>(random.below(100));
    }
    // A lease is of use only with what follows it.
    if (random.percent(50)) {
        std::size_t at = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(schedule.size()) - 2));
        for (const K kind : {K::kLease, K::kRead, K::kPutLeased}) {
            schedule[at].kind = kind;
            schedule[at].space = space;
            schedule[at].key = 0;
            at = std::min(at + 1 + static_cast<std::size_t>(random.below(3)), schedule.size() - (kind == K::kLease ? 2 : 1));
        }
    }
    return schedule;
}

PutPlayer::PutPlayer(const std::string& conninfo) : checker_(conninfo, "puts checker"), old_(conninfo, "puts old") {
    for (int i = 0; i < kSessions; i++) sessions_.push_back(std::make_unique<Session>(conninfo, "puts"));
}

void PutPlayer::set_up() {
    checker_.run("SET client_min_messages = warning");
    checker_.run("DROP SCHEMA IF EXISTS load CASCADE; DROP EXTENSION IF EXISTS prompt_cache CASCADE");
    checker_.run(
        "CREATE EXTENSION prompt_cache; CREATE SCHEMA load;"
        "CREATE TABLE load.items (id int PRIMARY KEY, v text);"
        "CREATE TABLE load.groups (id int PRIMARY KEY, v text);"
        "CREATE TABLE load.notes (id int PRIMARY KEY, v text);"
        "CREATE TABLE load.orders (item int, v text, kind text);"
        "INSERT INTO load.groups VALUES (0, 'g0'), (1, 'g1');"
        "CREATE FUNCTION load.built(key text) RETURNS text LANGUAGE sql STABLE AS"
        " $$ SELECT i.v || '/' || g.v FROM load.items i JOIN load.groups g ON g.id = i.id % 2 WHERE i.id = key::int $$;"
        "CREATE FUNCTION load.outer(key text) RETURNS text LANGUAGE sql STABLE AS"
        " $$ SELECT 'o:' || prompt_cache.fetch('built', key) $$;"
        "CREATE FUNCTION load.truth(space text, k int) RETURNS text LANGUAGE sql STABLE AS $$"
        " SELECT CASE space WHEN 'plain' THEN i.v || '/' || g.v || '/' || n.v WHEN 'built' THEN i.v || '/' || g.v"
        "   ELSE 'o:' || i.v || '/' || g.v END"
        "   FROM load.items i JOIN load.groups g ON g.id = i.id % 2 JOIN load.notes n ON n.id = i.id WHERE i.id = k $$;"
        "CREATE FUNCTION load.set_item(k int, value text) RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO load.items VALUES (k, value) ON CONFLICT (id) DO UPDATE SET v = value; END $$;"
        "CREATE FUNCTION load.set_note(k int, value text) RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN UPDATE load.notes SET v = value WHERE id = k; RETURN prompt_cache.forget_tag('note/' || k); END $$;"
        "CREATE FUNCTION load.put(space text, k int, value text, lease bigint DEFAULT NULL) RETURNS boolean LANGUAGE sql AS"
        " $$ SELECT prompt_cache.put(space, k::text, value, tags => ARRAY['note/' || k], lease => lease) $$;"
        // What honest functions do.
        "CREATE FUNCTION load.through(space text, k int, value text) RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM load.set_item(k, value); RETURN load.put(space, k, load.truth(space, k)); END $$;"
        "CREATE FUNCTION load.nested_put(space text, k int) RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN load.put(space, k, load.truth(space, k)); END $$;"
        "CREATE FUNCTION load.lease_write_put(space text, k int, value text) RETURNS boolean LANGUAGE plpgsql AS $$"
        " DECLARE l bigint := prompt_cache.lease(space, k::text); r text := load.truth(space, k);"
        " BEGIN PERFORM load.set_item(k, value); RETURN l IS NOT NULL AND load.put(space, k, r, l); END $$;"
        "CREATE FUNCTION load.write_lease_put(space text, k int, value text) RETURNS boolean LANGUAGE plpgsql AS $$"
        " DECLARE l bigint;"
        " BEGIN PERFORM load.set_item(k, value); l := prompt_cache.lease(space, k::text);"
        " RETURN l IS NOT NULL AND load.put(space, k, load.truth(space, k), l); END $$;"
        "CREATE FUNCTION load.undone_put(space text, k int, value text) RETURNS boolean LANGUAGE plpgsql AS $$"
        " DECLARE l bigint := prompt_cache.lease(space, k::text); r text;"
        " BEGIN"
        "   BEGIN PERFORM load.set_item(k, value); r := load.truth(space, k); RAISE division_by_zero;"
        "   EXCEPTION WHEN division_by_zero THEN NULL; END;"
        "   RETURN l IS NOT NULL AND load.put(space, k, r, l);"
        " END $$;"
        "CREATE FUNCTION load.leased_now(space text, k int) RETURNS bigint LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN prompt_cache.lease(space, k::text); END $$;"
        // Changes by triggers of another table: at once, at the commit, and at the commit with a put.
        "CREATE FUNCTION load.ordered() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN"
        "   IF new.kind = tg_argv[0] OR (new.kind = 'put' AND tg_argv[0] = 'late') THEN"
        "     PERFORM load.set_item(new.item, new.v);"
        "   END IF;"
        "   IF new.kind = 'put' AND tg_argv[0] = 'late' THEN"
        "     PERFORM load.put(space, new.item, load.truth(space, new.item)) FROM unnest('{plain,built,outer}'::text[]) space;"
        "   END IF;"
        "   RETURN NULL;"
        " END $$;"
        "CREATE TRIGGER now AFTER INSERT ON load.orders FOR EACH ROW EXECUTE FUNCTION load.ordered('now');"
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON load.orders DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION load.ordered('late')");
    checker_.run(
        "SELECT prompt_cache.create_namespace('plain'), prompt_cache.create_namespace('built', 'load.built(text)'),"
        " prompt_cache.create_namespace('outer', 'load.outer(text)')");
    checker_.run(
        "SELECT prompt_cache.watch('load.items', s, 'id'), prompt_cache.watch('load.groups', s)"
        " FROM unnest('{plain,built}'::text[]) s");
    for (auto& session : sessions_) session->run("SET lock_timeout = '5s'");
}

void PutPlayer::begin_schedule() {
    log.clear();
    wrong_.clear();
    has_old_ = false;
    for (auto& session : sessions_) session->recover();
    first_key_ = 10 * ++serial_;  // keys that nobody has a lease of, and an even one first
    for (int i = 0; i < kSessions; i++) {
        transactions_[i] = {};
        transactions_[i].serial = ++serial_;
        accepted_[i].clear();
    }
    for (auto& space : applications_)
        for (Application& one : space) one = {};
    checker_.run("DELETE FROM load.items; DELETE FROM load.notes; DELETE FROM load.orders");
    const std::string keys = "generate_series(" + key(0) + ", " + key(kKeys - 1) + ") k";
    checker_.run("INSERT INTO load.items SELECT k, 'i' FROM " + keys);
    checker_.run("INSERT INTO load.notes SELECT k, 'n' FROM " + keys);
}

void PutPlayer::end_schedule() {
    for (int i = 0; i < kSessions; i++) {
        sessions_[i]->recover();
        transactions_[i] = {};
    }
    end_prepared(false);
    if (wrong_.empty()) compare(checker_, "at the end", true);
    if (has_old_) old_.run("COMMIT");
    // Leases that are left would be in the way of later schedules.
    for (int space = 0; space < kSpaces; space++)
        for (int k = 0; k < kKeys; k++)
            if (const std::string& lease = applications_[space][k].lease; !lease.empty())
                checker_.run("BEGIN; SELECT load.put('" + std::string(kSpaceNames[space]) + "', " + key(k) + ", NULL, " + lease +
                             "); ROLLBACK");
}

std::string PutPlayer::play(const PutSchedule& schedule) {
    begin_schedule();
    at_ = 0;
    for (const PutStep& one : schedule) {
        if (!wrong_.empty()) break;
        at_++;
        step(one);
    }
    end_schedule();
    return wrong_;
}

std::optional<Rows> PutPlayer::run(int session, const std::string& sql) {
    Transaction& transaction = transactions_[session];
    const auto say = [&](const std::string& answer) {
        log.push_back(std::string(1, static_cast<char>('a' + session)) + "> " + sql + ";" +
                      (answer.empty() ? "" : "  -- " + answer));
    };
    counts.steps++;
    if (transaction.open && transaction.repeatable && transaction.snapshot_at == 0) transaction.snapshot_at = at_;
    try {
        Rows rows = sessions_[session]->run(sql);
        say(rows.count() == 1 ? (rows.null(0, 0) ? "NULL" : rows.text(0, 0)) : "");
        return rows;
    } catch (const SqlError& error) {
        if (error.state.empty()) throw;
        say(error.state);
        if (transaction.open) {
            sessions_[session]->recover();
            ended(session, false);
        }
        return std::nullopt;
    }
}

bool PutPlayer::may_change(int session, const std::set<std::string>& rows) {
    for (const std::string& row : rows) {
        if (prepared_rows_.count(row) > 0) return false;
        for (int other = 0; other < kSessions; other++)
            if (other != session && transactions_[other].rows.count(row) > 0) return false;
    }
    return true;
}

void PutPlayer::note_change(int session, const std::set<std::string>& rows) {
    Transaction& transaction = transactions_[session];
    transaction.own = transaction.own || !rows.empty();
    if (transaction.open) transaction.rows.insert(rows.begin(), rows.end());
}

bool PutPlayer::change(int session, const std::set<std::string>& rows, const std::string& sql) {
    if (!may_change(session, rows)) return false;
    if (!run(session, sql)) return false;
    note_change(session, rows);
    if (!transactions_[session].open) ended(session, true);
    return true;
}

// A statement whose first column says whether the value would be stored.
void PutPlayer::put(int session, const PutStep& step, const std::string& sql, bool leased, const std::set<std::string>& rows) {
    if (!may_change(session, rows)) return;
    note_change(session, rows);
    counts.puts++;
    const std::optional<Rows> answer = run(session, sql);
    if (!answer) return;
    if (answer->count() > 0 && answer->flag(0, 0)) {
        counts.accepted++;
        accepted_[session].push_back({step.space, step.key,
                                      (leased ? kLeased : 0) | (transactions_[session].own ? kAfterOwnChange : 0) |
                                          (step.space > 0 ? kWithBuilder : 0)});
    }
    if (!transactions_[session].open) ended(session, true);
}

// The session's transaction is over.
void PutPlayer::ended(int session, bool committed) {
    if (committed) compare(checker_, "after the commit", false);
    if (committed && has_old_) compare(old_, "in an old snapshot", false);
    if (committed && wrong_.empty())
        for (const Accepted& one : accepted_[session]) {
            const std::string place = quote(kSpaceNames[one.space]) + ", " + quote(key(one.key));
            if (checker_.run("SELECT found FROM prompt_cache.get(" + place + ")").flag(0, 0)) counts.published[one.way]++;
        }
    accepted_[session].clear();
    transactions_[session] = {};
    transactions_[session].serial = ++serial_;
}

void PutPlayer::compare(Session& reader, const char* who, bool fetch) {
    if (!wrong_.empty()) return;
    const std::string sql =
        "SELECT s, k, coalesce(g.value, 'NULL'), coalesce(t, 'NULL') FROM unnest('{plain,built,outer}'::text[]) s,"
        " generate_series(" + key(0) + ", " + key(kKeys - 1) + ") k, prompt_cache.get(s, k::text) g, load.truth(s, k) t"
        " WHERE g.found AND g.value IS DISTINCT FROM t";
    const std::string fetch_sql =
        " UNION ALL SELECT s, k, coalesce(f, 'NULL'), coalesce(t, 'NULL') FROM unnest('{built,outer}'::text[]) s,"
        " generate_series(" + key(0) + ", " + key(kKeys - 1) + ") k, prompt_cache.fetch(s, k::text) f, load.truth(s, k) t"
        " WHERE f IS DISTINCT FROM t";
    counts.compared += kSpaces * kKeys;
    const Rows rows = reader.run(fetch ? sql + fetch_sql : sql);
    if (rows.count() > 0)
        wrong_ = std::string(who) + " " + rows.text(0, 0) + " " + rows.text(0, 1) + " is \"" + rows.text(0, 2) + "\", not \"" +
                 rows.text(0, 3) + "\"";
}

// What a session gets in the middle of its transaction.
void PutPlayer::look(const PutStep& step) {
    const std::string place = quote(kSpaceNames[step.space]) + ", " + quote(key(step.key));
    std::string sql = "SELECT coalesce(g.found AND g.value IS DISTINCT FROM t, false)";
    if (step.space > 0 && step.variant < 50) sql += " OR prompt_cache.fetch(" + place + ") IS DISTINCT FROM t";
    sql += " FROM prompt_cache.get(" + place + ") g, load.truth(" + quote(kSpaceNames[step.space]) + ", " + key(step.key) +
           ") t";
    const std::optional<Rows> rows = run(step.session, sql);
    counts.compared++;
    if (rows && rows->flag(0, 0)) wrong_ = "its own reader gets another value";
}

std::string PutPlayer::put_sql(const PutStep& step, const std::string& value, const std::string& lease) const {
    return "prompt_cache.put(" + quote(kSpaceNames[step.space]) + ", " + quote(key(step.key)) + ", " + value + ", tags => '{note/" +
           key(step.key) + "}'" + (lease.empty() ? "" : ", lease => " + lease) + ")";
}

std::string PutPlayer::true_value(const PutStep& step) const {
    const std::string space = quote(kSpaceNames[step.space]);
    if (step.space > 0 && step.variant % 2 == 0) return "prompt_cache.rebuild(" + space + ", " + quote(key(step.key)) + ")";
    return "load.truth(" + space + ", " + key(step.key) + ")";
}

std::string PutPlayer::set_sql(const PutStep& step) {
    return "load.set_item(" + key(step.key) + ", " + next_value() + ")";
}

void PutPlayer::put_leased(const PutStep& step, bool after_change) {
    Application& application = applications_[step.space][step.key];
    if (application.lease.empty() || !application.value) return;
    const Transaction& transaction = transactions_[step.session];
    const bool read_here = application.read_session == step.session && in_transaction(step.session, application.read_serial);
    const bool leased_here = application.lease_session == step.session && in_transaction(step.session, application.lease_serial);
    const bool honest = read_here || (!application.read_own && !application.read_old && !(transaction.own && leased_here));
    if (step.space == 0 && !honest) return;
    const std::set<std::string> rows = after_change ? std::set<std::string>{"item " + key(step.key)} : std::set<std::string>{};
    if (!may_change(step.session, rows)) return;
    // The change comes last in the row, and first in time.
    const std::string before = after_change ? " FROM (SELECT " + set_sql(step) + " OFFSET 0) changed" : "";
    put(step.session, step, "SELECT " + put_sql(step, *application.value, application.lease) + before, true, rows);
    application.lease.clear();
}

void PutPlayer::end_prepared(bool commit) {
    if (prepared_.empty()) return;
    checker_.run((commit ? "COMMIT PREPARED " : "ROLLBACK PREPARED ") + prepared_);
    log.push_back((commit ? "COMMIT PREPARED " : "ROLLBACK PREPARED ") + prepared_ + ";");
    prepared_.clear();
    prepared_rows_.clear();
    if (commit) compare(checker_, "after COMMIT PREPARED", false);
    if (commit && has_old_) compare(old_, "in an old snapshot", false);
}

void PutPlayer::step(const PutStep& step) {
    const int s = step.session;
    Transaction& transaction = transactions_[s];
    Application& application = applications_[step.space][step.key];
    const std::string space = quote(kSpaceNames[step.space]);
    const std::string place = space + ", " + key(step.key);
    const std::string place_text = space + ", " + quote(key(step.key));
    const std::string item = "item " + key(step.key);
    switch (step.kind) {
        case K::kBegin:
            if (transaction.open) return;
            run(s, step.variant < 60   ? "BEGIN"
                   : step.variant < 95 ? "BEGIN ISOLATION LEVEL REPEATABLE READ"
                                       : "BEGIN READ ONLY");
            transaction.open = true;
            transaction.repeatable = step.variant >= 60 && step.variant < 95;
            return;
        case K::kCommit:
            if (!transaction.open || !run(s, "COMMIT")) return;
            ended(s, true);
            return;
        case K::kRollback:
            if (!transaction.open || !run(s, "ROLLBACK")) return;
            ended(s, false);
            return;
        case K::kPrepare: {
            if (!transaction.open || !prepared_.empty()) return;
            const std::string name = "'puts " + std::to_string(++serial_) + "'";
            const std::set<std::string> rows = transaction.rows;
            if (!run(s, "PREPARE TRANSACTION " + name)) return;
            prepared_ = name;
            prepared_rows_ = rows;
            ended(s, false);
            return;
        }
        case K::kEndPrepared:
            end_prepared(step.variant < 70);
            return;
        case K::kSavepoint:
            if (transaction.open && run(s, "SAVEPOINT s")) transaction.savepoints++;
            return;
        case K::kRollbackTo:
            if (transaction.savepoints > 0) run(s, "ROLLBACK TO s");
            return;
        case K::kRelease:
            if (transaction.savepoints > 0 && run(s, "RELEASE s")) transaction.savepoints--;
            return;
        case K::kLease: {
            if (!application.lease.empty()) return;
            const std::optional<Rows> rows = run(s, "SELECT prompt_cache.lease(" + place_text + ")");
            if (!rows || rows->null(0, 0)) return;
            application = {};
            application.lease = rows->text(0, 0);
            application.lease_session = s;
            application.lease_serial = transaction.serial;
            application.lease_at = at_;
            return;
        }
        case K::kRead: {
            if (application.lease.empty()) return;
            const std::optional<Rows> rows = run(s, "SELECT load.truth(" + place + ")");
            if (!rows) return;
            application.value = rows->null(0, 0) ? "NULL" : quote(rows->text(0, 0));
            application.read_session = s;
            application.read_serial = transaction.serial;
            application.read_own = transaction.own;
            application.read_old = transaction.open && transaction.repeatable && transaction.snapshot_at <= application.lease_at;
            return;
        }
        case K::kPutLeased:
            put_leased(step, false);
            return;
        case K::kSetThenPutLeased:
            put_leased(step, true);
            return;
        case K::kPutNow:
            put(s, step, "SELECT " + put_sql(step, true_value(step)), false);
            return;
        case K::kSetThenPut:
            put(s, step,
                "SELECT p FROM (SELECT " + set_sql(step) + " AS c, " + put_sql(step, true_value(step)) + " AS p OFFSET 0) q",
                false, {item});
            return;
        case K::kPutThenSet:
            put(s, step, "SELECT " + put_sql(step, true_value(step)) + ", " + set_sql(step), false, {item});
            return;
        case K::kCtePut:
            put(s, step,
                "WITH w AS (UPDATE load.items SET v = " + next_value() + " WHERE id = " + key(step.key) +
                    " RETURNING id) SELECT " + put_sql(step, true_value(step)) + (step.variant < 50 ? " FROM w" : ""),
                false, {item});
            return;
        case K::kReturningPut:
            put(s, step,
                "UPDATE load.items SET v = " + next_value() + " WHERE id = " + key(step.key) + " RETURNING " +
                    (step.variant < 50 ? put_sql(step, true_value(step)) : "load.nested_put(" + place + ")"),
                false, {item});
            return;
        case K::kThrough:
        case K::kLeaseWritePut:
        case K::kWriteLeasePut:
        case K::kUndonePut: {
            const char* const name = step.kind == K::kThrough         ? "through"
                                     : step.kind == K::kLeaseWritePut ? "lease_write_put"
                                     : step.kind == K::kWriteLeasePut ? "write_lease_put"
                                                                      : "undone_put";
            put(s, step, std::string("SELECT load.") + name + "(" + place + ", " + next_value() + ")", step.kind != K::kThrough, {item});
            return;
        }
        case K::kNestedPut:
            put(s, step, "SELECT load.nested_put(" + place + ")", false);
            return;
        case K::kOneStatementLease:
            put(s, step,
                "SELECT p FROM (SELECT " + set_sql(step) + " AS c, " +
                    put_sql(step, true_value(step), "load.leased_now(" + place + ")") + " AS p OFFSET 0) q",
                true, {item});
            return;
        case K::kCursor:
            if (!transaction.open || transaction.cursor) return;
            transaction.cursor = run(s, "DECLARE c CURSOR FOR SELECT " + put_sql(step, true_value(step))).has_value();
            return;
        case K::kFetchCursor:
            if (!transaction.cursor) return;
            transaction.cursor = false;
            put(s, step, "FETCH c", false);
            if (transaction.open) run(s, "CLOSE c");
            return;
        case K::kSetItem:
            change(s, {item}, "SELECT " + set_sql(step));
            return;
        case K::kSetGroup:
            change(s, {"group " + std::to_string(step.key % 2)},
                   "UPDATE load.groups SET v = " + next_value() + " WHERE id = " + std::to_string(step.key % 2));
            return;
        case K::kSetNote:
            change(s, {"note " + key(step.key)}, "SELECT load.set_note(" + key(step.key) + ", " + next_value() + ")");
            return;
        case K::kOrderNow:
        case K::kOrderLate:
        case K::kOrderPut: {
            const char* const kind = step.kind == K::kOrderNow ? "now" : step.kind == K::kOrderLate ? "late" : "put";
            change(s, {item}, "INSERT INTO load.orders VALUES (" + key(step.key) + ", " + next_value() + ", " + quote(kind) + ")");
            return;
        }
        case K::kRemoveItem:
            change(s, {item}, "DELETE FROM load.items WHERE id = " + key(step.key));
            return;
        case K::kForget:
            run(s, step.variant < 40   ? "SELECT prompt_cache.forget(" + place_text + ")"
                   : step.variant < 60 ? "SELECT prompt_cache.forget_tag('note/" + key(step.key) + "')"
                   : step.variant < 80 ? "SELECT prompt_cache.forget_prefix(" + place_text + ") >= 0"
                                       : "SELECT prompt_cache.forget_namespace(" + space + ")");
            if (!transaction.open) ended(s, true);
            return;
        case K::kLook:
            look(step);
            return;
        case K::kPoison:
            if (step.space == 0) return;
            if (step.variant < 40 && !application.lease.empty()) {
                put(s, step, "SELECT " + put_sql(step, next_value(), application.lease), true);
                application.lease.clear();
            } else {
                put(s, step, "SELECT " + put_sql(step, step.variant < 90 ? next_value() : "NULL"), false);
            }
            return;
        case K::kOldSnapshot:
            if (has_old_) return;
            old_.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.items");
            log.push_back("old> BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.items;");
            has_old_ = true;
            return;
        case K::kCount:
            return;
    }
}

}  // namespace load
