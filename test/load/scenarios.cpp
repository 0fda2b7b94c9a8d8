// Scenarios: for each rule of the protocol the shortest way to a wrong answer without it. Deterministic:
// every step waits for the one before it. Run by `controls`, once with all rules and once with the rule taken
// out of a test build.
//
//   scenarios CONNINFO NAME     exit code 0: every answer was exact; 1: a wrong one, which is printed
#include <cstdio>
#include <functional>
#include <thread>

#include "schema.hpp"
#include "session.hpp"

namespace {

using namespace load;

class Scene {
  public:
    explicit Scene(const std::string& conninfo)
        : a(conninfo, "scenario a"),
          b(conninfo, "scenario b"),
          c(conninfo, "scenario c"),
          conninfo_(conninfo) {}

    void set_up();
    // The prompt of the user as this session gets it now equals what its snapshot sees.
    std::string exact(Session& session, const std::string& when, Id user = 1);
    void expect(bool right, const std::string& what) {
        if (right) return;
        std::printf("wrong: %s\n", what.c_str());
        wrong_++;
    }
    // Until another session waits for a lock, so that what blocks has really come to its place.
    void wait_until_blocked(Session& blocked);
    const std::string& conninfo() const { return conninfo_; }
    int wrong() const { return wrong_; }

    Session a, b, c;

  private:
    std::string conninfo_;
    int wrong_ = 0;
};

void Scene::set_up() {
    c.run("SET client_min_messages = warning");
    c.run("DROP SCHEMA IF EXISTS load CASCADE; DROP EXTENSION IF EXISTS prompt_cache CASCADE");
    c.run(
        "CREATE EXTENSION prompt_cache; CREATE SCHEMA load;"
        "CREATE TABLE load.tenants (id bigint PRIMARY KEY, system_prompt text);"
        "CREATE TABLE load.users (id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);"
        "CREATE TABLE load.messages (body text);"
        "INSERT INTO load.tenants VALUES (1, 'tenant');"
        "INSERT INTO load.users SELECT i, 1, 'first' FROM generate_series(1, 3) i");
    c.run("SELECT prompt_cache.attach('load.users', 'load.tenants')");
    c.run("SELECT prompt_cache.set_application_prompt('application')");
}

std::string Scene::exact(Session& session, const std::string& when, Id user) {
    const Rows rows = session.run(
        std::string("SELECT g.source, g.prompt, ") + kOracle +
            " FROM (SELECT $1::bigint AS id) k CROSS JOIN LATERAL prompt_cache.get_or_build(k.id) g"
            " LEFT JOIN load.users u ON u.id = k.id LEFT JOIN load.tenants t ON t.id = u.tenant_id"
            " LEFT JOIN prompt_cache.application a ON true",
        {std::to_string(user)});
    const auto tail = [&](int column) {
        const std::string text = rows.null(0, column) ? "<null>" : rows.text(0, column);
        return text.size() > 12 ? text.substr(text.size() - 12) : text;
    };
    expect(rows.null(0, 1) == rows.null(0, 2) && rows.text(0, 1) == rows.text(0, 2),
           when + ": \"..." + tail(1) + "\" from " + rows.text(0, 0) + ", not \"..." + tail(2) + "\"");
    return rows.text(0, 0);
}

void Scene::wait_until_blocked(Session& blocked) {
    for (int tries = 0; tries < 500; tries++) {
        const Rows rows = c.run("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1",
                                {std::to_string(blocked.pid())});
        if (rows.count() == 1 && rows.flag(0, 0)) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    expect(false, "the scenario itself: nobody waits");
}

const char* const kChange = "UPDATE load.users SET system_prompt = 'second' WHERE id = 1";

// A build that began before a change is stored after it.
void fill_race(Scene& s) {
    s.a.run("SELECT prompt_cache.build(2)");  // knows the wiring
    s.b.run("BEGIN; LOCK TABLE load.tenants IN ACCESS EXCLUSIVE MODE");
    s.a.send("SELECT prompt_cache.prompt(1)");
    s.wait_until_blocked(s.a);
    s.b.run("UPDATE load.tenants SET system_prompt = 'changed tenant'; COMMIT");
    s.a.receive();
    s.exact(s.a, "after the change");
    s.exact(s.b, "after the change, elsewhere");
}

// P takes its id after four others and marks before them; they push it out of the slot while it still runs.
void pushed_out(Scene& s) {
    std::vector<std::unique_ptr<Session>> others;
    for (int i = 0; i < 4; i++) {
        others.push_back(std::make_unique<Session>(s.conninfo(), "scenario other"));
        others.back()->run("BEGIN; SELECT pg_current_xact_id()");
    }
    s.b.run(std::string("BEGIN; ") + kChange + "; PREPARE TRANSACTION 'scenario'");
    for (auto& other : others) other->run("SELECT prompt_cache.invalidate_user(1); COMMIT");
    s.a.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.users");
    s.b.run("COMMIT PREPARED 'scenario'");
    s.exact(s.b, "after the change");
    s.exact(s.b, "after the change, again");
    s.exact(s.a, "in a snapshot of before");
    s.a.run("COMMIT");
}

void change_is_seen(Scene& s) {
    s.exact(s.a, "before");
    s.exact(s.a, "before, again");
    s.b.run(kChange);
    s.exact(s.a, "after the change");
}

void old_snapshot(Scene& s) {
    s.a.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.users");
    s.b.run(kChange);
    s.exact(s.b, "after the change");
    s.exact(s.a, "in a snapshot of before");
    s.a.run("COMMIT");
    s.exact(s.a, "in a new snapshot");
}

void own_change(Scene& s) {
    s.exact(s.a, "before");
    s.a.run(std::string("BEGIN; ") + kChange);
    s.exact(s.a, "own change");
    s.exact(s.b, "somebody else's uncommitted change");
    s.a.run("ROLLBACK");
    s.exact(s.a, "after the rollback");
}

void own_ddl(Scene& s) {
    s.exact(s.a, "before");
    s.a.run(std::string("BEGIN; ALTER TABLE load.users DISABLE TRIGGER ALL; ") + kChange);
    s.exact(s.a, "own change without triggers");
    s.a.run("ROLLBACK");
    s.exact(s.a, "after the rollback");
}

// A write fires the triggers of now, even where its snapshot still sees others.
void unseen_ddl(Scene& s) {
    Session old_snapshot(s.conninfo(), "scenario old snapshot");
    for (Session* session : {&s.a, &old_snapshot})
        session->run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.tenants");
    s.b.run("ALTER TABLE load.users DISABLE TRIGGER ALL");
    s.exact(old_snapshot, "in a snapshot of before");
    s.a.run("UPDATE load.users SET system_prompt = 'second' WHERE id IN (1, 2)");
    s.exact(s.a, "own change of what is cached, with triggers off");
    s.exact(s.a, "own change of what is not cached, with triggers off", 2);
    s.exact(old_snapshot, "somebody else's uncommitted change", 2);
    s.a.run("COMMIT");
    s.exact(old_snapshot, "somebody else's change", 2);
    s.exact(s.a, "in a new snapshot", 2);
    old_snapshot.run("COMMIT");
}

// A namespace "ones" that gives the text of the only message, which it watches.
void watched_ones(Scene& s) {
    s.c.run(
        "CREATE FUNCTION load.one(key text) RETURNS text LANGUAGE sql STABLE AS"
        " $$ SELECT body FROM load.messages WHERE key <> '' $$");
    s.c.run("SELECT prompt_cache.create_namespace('ones', 'load.one(text)')");
    s.c.run("SELECT prompt_cache.watch('load.messages', 'ones')");
}

void exact_one(Scene& s, Session& session, const std::string& when, const std::string& key) {
    const Rows rows = session.run("SELECT prompt_cache.fetch('ones', $1), body FROM load.messages", {key});
    s.expect(rows.text(0, 0) == rows.text(0, 1), when + ": \"" + rows.text(0, 0) + "\"");
}

// The same with the trigger of a watch.
void unseen_unwatch(Scene& s) {
    s.c.run("INSERT INTO load.messages VALUES ('first')");
    watched_ones(s);
    Session old_snapshot(s.conninfo(), "scenario old snapshot");
    for (Session* session : {&s.a, &old_snapshot})
        session->run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.tenants");
    s.b.run("SELECT prompt_cache.unwatch('load.messages', 'ones')");
    exact_one(s, old_snapshot, "in a snapshot of before", "cached");
    s.a.run("UPDATE load.messages SET body = 'second'");
    exact_one(s, s.a, "own change of what is cached, no longer watched", "cached");
    exact_one(s, s.a, "own change of what is not cached, no longer watched", "other");
    exact_one(s, old_snapshot, "somebody else's uncommitted change", "other");
    s.a.run("COMMIT");
    exact_one(s, old_snapshot, "somebody else's change", "other");
    old_snapshot.run("COMMIT");
}

// What the wiring is under own DDL that nobody else will ever see, when nobody has looked since the last change.
void own_ddl_wiring(Scene& s) {
    s.c.run("ALTER TABLE load.users DISABLE TRIGGER ALL");
    s.a.run(
        "BEGIN; ALTER TABLE load.users ENABLE ALWAYS TRIGGER prompt_cache_user_changed,"
        " ENABLE ALWAYS TRIGGER prompt_cache_user_truncated");
    s.exact(s.a, "with own triggers");
    s.a.run("ROLLBACK");
    s.exact(s.b, "after the rollback, without triggers");
    s.c.run(kChange);
    s.exact(s.b, "after a change that no trigger saw");
}

// The same for a watch.
void own_ddl_watch(Scene& s) {
    s.c.run("INSERT INTO load.messages VALUES ('first')");
    watched_ones(s);
    s.c.run("ALTER TABLE load.messages DISABLE TRIGGER ALL");
    s.a.run("BEGIN; ALTER TABLE load.messages ENABLE TRIGGER ALL; SELECT prompt_cache._repair_triggers()");
    exact_one(s, s.a, "with own triggers", "k");
    s.a.run("ROLLBACK");
    exact_one(s, s.b, "after the rollback, without triggers", "k");
    s.c.run("UPDATE load.messages SET body = 'second'");
    exact_one(s, s.b, "after a change that no trigger saw", "k");
}

const char* const kSwapTables =
    "BEGIN; ALTER TABLE load.users RENAME TO users_old; ALTER TABLE load.users2 RENAME TO users";

// Which table is attached does not hang on what it is called.
void expect_attached(Scene& s, Session& session, const std::string& when) {
    const Rows rows = session.run("SELECT prompt, source FROM prompt_cache.get_or_build(1)");
    s.expect(rows.text(0, 0).ends_with("first"), when + ": \"..." + rows.text(0, 0).substr(rows.text(0, 0).size() - 12) +
                                                     "\" from " + rows.text(0, 1));
}

// Tables change names while a build waits for the lock.
void tables_swap(Scene& s) {
    s.c.run("CREATE TABLE load.users2 AS SELECT id, tenant_id, 'not attached' AS system_prompt FROM load.users");
    s.a.run("SELECT prompt_cache.build(2), prompt_cache.prompt(2)");
    Session old_snapshot(s.conninfo(), "scenario old snapshot");
    s.b.run(kSwapTables);
    old_snapshot.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.tenants");
    s.a.send("SELECT prompt_cache.prompt(1)");
    s.wait_until_blocked(s.a);
    s.b.run("COMMIT");
    const Rows waited = s.a.receive();
    s.expect(waited.text(0, 0).ends_with("first"), "who waited: \"" + waited.text(0, 0) + "\"");
    expect_attached(s, old_snapshot, "in a snapshot of before");
    old_snapshot.run("COMMIT");
    expect_attached(s, s.a, "afterwards");
    expect_attached(s, s.c, "afterwards, elsewhere");
}

// A change of names can be seen before its messages are sent.
void tables_swap_untold(Scene& s) {
    s.c.run("CREATE TABLE load.users2 AS SELECT id, tenant_id, 'not attached' AS system_prompt FROM load.users");
    s.a.run("SELECT prompt_cache.build(2), prompt_cache.prompt(2)");
    s.c.run("SELECT pg_advisory_lock(7061757365)");
    s.b.run(std::string("SET prompt_cache.pause_at = 'commit|tell'; ") + kSwapTables);
    s.b.send("COMMIT");
    s.wait_until_blocked(s.b);
    s.a.send("SELECT prompt_cache.prompt(1)");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    s.c.run("SELECT pg_advisory_unlock(7061757365)");
    s.b.receive();
    s.a.receive();
    expect_attached(s, s.a, "afterwards");
    expect_attached(s, s.c, "afterwards, elsewhere");
    s.b.run("RESET prompt_cache.pause_at");
}

// What SELECT FOR SHARE finds hangs on who holds the rows.
void locking_read(Scene& s) {
    s.c.run("INSERT INTO load.messages VALUES ('first')");
    s.c.run(
        "CREATE FUNCTION load.free() RETURNS text LANGUAGE sql VOLATILE AS"
        " $$ SELECT body FROM load.messages FOR SHARE SKIP LOCKED $$;"
        "CREATE FUNCTION load.one(key text) RETURNS text LANGUAGE plpgsql STABLE AS"
        " $$ BEGIN RETURN coalesce(load.free(), 'nothing'); END $$");
    s.c.run("SELECT prompt_cache.create_namespace('ones', 'load.one(text)')");
    s.c.run("SELECT prompt_cache.watch('load.messages', 'ones')");
    s.b.run("BEGIN; SELECT FROM load.messages FOR UPDATE");
    s.a.run("SELECT prompt_cache.fetch('ones', 'k')");
    s.b.run("ROLLBACK");
    exact_one(s, s.a, "after the lock", "k");
}

// What was read and undone must not be put.
void put_undone(Scene& s) {
    s.c.run("INSERT INTO load.messages VALUES ('first')");
    s.c.run("SELECT prompt_cache.create_namespace('puts')");
    s.c.run("SELECT prompt_cache.watch('load.messages', 'puts')");
    s.a.run("BEGIN");
    const std::string id = s.a.run("SELECT prompt_cache.lease('puts', 'k')").text(0, 0);
    s.a.run("SAVEPOINT s; UPDATE load.messages SET body = 'never'");
    const std::string read = s.a.run("SELECT body FROM load.messages").text(0, 0);
    s.a.run("ROLLBACK TO s");
    s.a.run("SELECT prompt_cache.put('puts', 'k', $1, lease => $2)", {read, id});
    s.a.run("COMMIT");
    s.expect(!s.b.run("SELECT found FROM prompt_cache.get('puts', 'k')").flag(0, 0), "a value that never was");
}

// A partition that lies elsewhere changes without our trigger: that is told, as for any table that nothing watches.
void foreign_partition(Scene& s) {
    s.c.run(
        "CREATE EXTENSION IF NOT EXISTS file_fdw; DROP SERVER IF EXISTS elsewhere CASCADE;"
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER file_fdw;"
        "CREATE TABLE load.parts (id int, body text) PARTITION BY LIST (id);"
        "CREATE TABLE load.part1 PARTITION OF load.parts FOR VALUES IN (1);"
        "COPY (SELECT 2, 'far') TO PROGRAM 'cat > far.csv' (FORMAT csv);"
        "CREATE FUNCTION load.two(key text) RETURNS text LANGUAGE sql STABLE AS"
        " $$ SELECT string_agg(body, ' ') FROM load.parts $$");
    s.c.run("SELECT prompt_cache.create_namespace('twos', 'load.two(text)')");
    s.c.run("SELECT prompt_cache.watch('load.parts', 'twos')");
    s.c.run(
        "CREATE FOREIGN TABLE load.part2 PARTITION OF load.parts FOR VALUES IN (2) SERVER elsewhere"
        " OPTIONS (filename 'far.csv', format 'csv')");
    s.a.run("SELECT prompt_cache.fetch('twos', 'k')");
    s.expect(s.a.run("SELECT cardinality(unwatched) = 1 FROM prompt_cache.namespaces WHERE namespace = 'twos'").flag(0, 0),
             "nobody says that a foreign partition is not watched");
}

// Whose session builds makes no difference, whatever it has set.
void session_settings(Scene& s) {
    s.c.run(
        "CREATE FUNCTION load.f(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS"
        " $$ BEGIN RETURN 'a\tb' || CASE WHEN t = NULL THEN 'null' ELSE t END; END $$");
    const struct {
        const char* setting;
        const char* prompt;
    } cases[] = {
        {"timezone_abbreviations = 'Australia'",
         "system_prompt || (timestamptz '2024-01-01 00:00+00' AT TIME ZONE 'EST')::text"},
        {"array_nulls = off", "array_to_string('{NULL}'::text[] || system_prompt, ',', 'none')"},
        {"transform_null_equals = on", "load.f(system_prompt)"},
        {"standard_conforming_strings = off", "load.f(system_prompt)"},
    };
    for (const auto& one : cases) {
        Session odd(s.conninfo(), "scenario odd session"), plain(s.conninfo(), "scenario plain session");
        s.c.run("SELECT prompt_cache.attach('load.users', 'load.tenants', user_prompt => $1)", {one.prompt});
        odd.run(std::string("SET escape_string_warning = off; SET ") + one.setting);
        odd.run("SELECT prompt_cache.prompt(1)");
        s.expect(plain.run("SELECT prompt_cache.prompt(1) = prompt_cache.build(1)").flag(0, 0),
                 std::string("built under ") + one.setting);
    }
}

// An AFTER trigger that comes before ours looks up the row that its own statement has changed.
void in_flight(Scene& s) {
    s.c.run(
        "CREATE TABLE load.seen (prompt text, built text);"
        "CREATE FUNCTION load.look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO load.seen SELECT "
        "prompt_cache.prompt(new.id), prompt_cache.build(new.id); RETURN NULL; END';"
        "CREATE TRIGGER a_first AFTER UPDATE ON load.users FOR EACH ROW EXECUTE FUNCTION load.look()");
    s.exact(s.a, "before");
    s.a.run(kChange);
    const Rows rows = s.a.run("SELECT count(*) FILTER (WHERE prompt = built), count(*) FROM load.seen");
    s.expect(rows.number(0, 0) == 1 && rows.number(0, 1) == 1,
             "a trigger of the own statement saw another text");
    s.exact(s.b, "after it");
}

void late_writer(Scene& s) {
    s.exact(s.b, "before");
    s.a.run("SET late_writer.statement = 'UPDATE load.users SET system_prompt = ''late'' WHERE id = 1'");
    s.a.run("INSERT INTO load.messages VALUES ('x')");
    s.a.run("SET late_writer.statement = ''");
    s.expect(s.c.run("SELECT FROM load.users WHERE system_prompt = 'late'").count() == 1,
             "the late writer did not write");
    s.exact(s.b, "after the late write");
}

// The rule's loss costs hits, not exactness.
void vacuum(Scene& s) {
    s.exact(s.a, "before");
    s.a.run("VACUUM load.users");
    s.a.run("ANALYZE load.users");
    s.expect(s.exact(s.a, "after VACUUM") == "memory", "VACUUM or ANALYZE emptied the cache");
}

void triggers_off(Scene& s) {
    s.exact(s.a, "before");
    s.b.run("ALTER TABLE load.users DISABLE TRIGGER ALL");
    s.exact(s.a, "without triggers");
    s.b.run(kChange);
    s.exact(s.a, "after a change that no trigger saw");
}

void durable_row(Scene& s) {
    s.exact(s.a, "before");
    s.a.run("SELECT prompt_cache.flush()");
    s.b.run(kChange);
    s.exact(s.a, "after the change");
}

// Redis has the value that was stored first, since nobody unlinks it. The first value must be there at all.
void remote_value(Scene& s) {
    s.exact(s.a, "before");
    s.a.run("SET prompt_cache.memory = off; SET prompt_cache.database = off");
    s.expect(s.a.run("SELECT source = 'redis' FROM prompt_cache.get_or_build(1)").flag(0, 0),
             "before: not answered by Redis");
    s.b.run(kChange);
    s.exact(s.a, "after the change");
}

// A function is replaced, which can be seen before its message is sent: what the old one makes is for its caller alone.
void remote_outdated(Scene& s) {
    const auto function = [](const char* version) {
        return std::string("CREATE OR REPLACE FUNCTION load.f(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN '") +
               version + " ' || t; END $$";
    };
    s.c.run(function("old"));
    s.c.run("SELECT prompt_cache.attach('load.users', 'load.tenants', user_prompt => 'load.f(system_prompt)')");
    s.a.run("SELECT prompt_cache.prompt(2)");
    s.c.run("SELECT pg_advisory_lock(7061757365)");
    s.b.run("SET prompt_cache.pause_at = 'commit|tell'");
    s.b.send(function("new"));
    s.wait_until_blocked(s.b);
    s.a.run("SELECT prompt_cache.prompt(1)");
    s.c.run("SELECT pg_advisory_unlock(7061757365)");
    s.b.receive();
    for (Session* session : {&s.a, &s.c})
        s.expect(session->run("SELECT prompt_cache.prompt(1) = prompt_cache.build(1)").flag(0, 0), "the text of a replaced function");
    s.b.run("RESET prompt_cache.pause_at");
}

void ddl(Scene& s) {
    s.exact(s.a, "before");
    s.b.run(std::string("BEGIN; ALTER TABLE load.users DISABLE TRIGGER ALL; ") + kChange +
            "; ALTER TABLE load.users ENABLE TRIGGER ALL; COMMIT");
    s.exact(s.a, "after a change that only DDL tells of");
}

// What a session remembers of the stamps it saw must not outlive its own commit: with an older transaction
// running and a later one over, the snapshots before and after that commit have the same numbers.
void stamp_memo(Scene& s) {
    s.exact(s.a, "before");
    s.a.run("SELECT prompt_cache.flush()");
    s.b.run("BEGIN; SELECT pg_current_xact_id()");
    s.a.run("BEGIN; INSERT INTO load.messages VALUES ('x')");
    s.c.run("INSERT INTO load.messages VALUES ('y')");
    s.a.run("SET prompt_cache.memory = off");
    s.exact(s.a, "before the own change");
    s.a.run("RESET prompt_cache.memory");
    s.a.run(kChange);
    s.a.run("COMMIT");
    s.exact(s.a, "after the own commit");
    s.exact(s.c, "after it, elsewhere");
    s.b.run("COMMIT");
    s.exact(s.c, "after the older transaction has ended");
}

// The schemas of old and new tables change names: the attached tables are what they were.
void schema_swap(Scene& s) {
    s.c.run("DROP SCHEMA IF EXISTS load_old CASCADE; CREATE TABLE load.copy AS TABLE load.users");
    s.exact(s.a, "before");
    s.c.run(
        "ALTER SCHEMA load RENAME TO load_old; CREATE SCHEMA load;"
        "CREATE TABLE load.tenants (id bigint PRIMARY KEY, system_prompt text);"
        "CREATE TABLE load.users (id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);"
        "INSERT INTO load.users VALUES (1, 1, 'not attached')");
    const char* const sql =
        "SELECT prompt_cache.prompt(1) LIKE '%' || (SELECT system_prompt FROM load_old.users WHERE id = 1)";
    s.expect(s.a.run(sql).flag(0, 0), "after the rename: not the text of the attached table");
    s.c.run("UPDATE load_old.users SET system_prompt = 'second' WHERE id = 1");
    s.expect(s.a.run(sql).flag(0, 0), "after the change: not the text of the attached table");
    s.c.run("DROP SCHEMA load CASCADE; ALTER SCHEMA load_old RENAME TO load");
    s.exact(s.a, "after the rename back");
}

// In two parts, for a restart or a promotion lies between them.
void prepare(Scene& s) {
    s.b.run(std::string("BEGIN; ") + kChange + "; PREPARE TRANSACTION 'scenario'");
}

void commit_prepared(Scene& s) {
    s.exact(s.a, "while it is prepared");
    s.exact(s.a, "while it is prepared, again");
    s.b.run("COMMIT PREPARED 'scenario'");
    s.exact(s.a, "after COMMIT PREPARED");
}

void look(Scene& s) {
    s.exact(s.a, "now");
}

// What an application has read and put under a lease must not be given to a snapshot that does not see it.
void lease(Scene& s) {
    s.c.run("SELECT prompt_cache.create_namespace('names')");
    Session old_snapshot(s.conninfo(), "scenario old snapshot");
    s.b.run(std::string("BEGIN; ") + kChange + "; SELECT prompt_cache.forget_tag('user/1')");
    old_snapshot.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.users");
    const std::string id = s.a.run("SELECT prompt_cache.lease('names', '1')").text(0, 0);
    s.b.run("COMMIT");
    s.a.run(
        "SELECT prompt_cache.put('names', '1', (SELECT system_prompt FROM load.users WHERE id = 1),"
        " tags => '{user/1}', lease => $1)",
        {id});
    const Rows rows = old_snapshot.run(
        "SELECT g.found AND g.value IS DISTINCT FROM (SELECT system_prompt FROM load.users WHERE id = 1)"
        " FROM prompt_cache.get('names', '1') g");
    s.expect(!rows.flag(0, 0), "a value from the future");
    old_snapshot.run("COMMIT");
}

// A build that began before a forget_prefix() is stored after it.
void prefix_race(Scene& s) {
    s.c.run("INSERT INTO load.messages VALUES ('old')");
    s.c.run(
        "CREATE FUNCTION load.file(key text) RETURNS text LANGUAGE plpgsql STABLE AS"
        " $$ DECLARE r text; BEGIN SELECT body INTO r FROM load.messages; PERFORM FROM load.tenants; RETURN r; END $$");
    s.c.run("SELECT prompt_cache.create_namespace('files', 'load.file(text)')");
    s.a.run("SET client_min_messages = warning");
    s.a.run("SELECT prompt_cache.fetch('files', 'other')");  // knows the namespace
    s.b.run("BEGIN; LOCK TABLE load.tenants IN ACCESS EXCLUSIVE MODE");
    s.a.send("SELECT prompt_cache.fetch('files', 'p1')");
    s.wait_until_blocked(s.a);
    s.b.run("UPDATE load.messages SET body = 'new'; SELECT prompt_cache.forget_prefix('files', 'p'); COMMIT");
    s.a.receive();
    const Rows rows = s.a.run("SELECT prompt_cache.fetch('files', 'p1')");
    s.expect(rows.text(0, 0) == "new", "after forget_prefix(): \"" + rows.text(0, 0) + "\"");
}

struct Named {
    const char* name;
    void (*play)(Scene&);
    bool sets_up;
};
const Named kAll[] = {
    {"fill_race", fill_race, true},
    {"pushed_out", pushed_out, true},
    {"change_is_seen", change_is_seen, true},
    {"old_snapshot", old_snapshot, true},
    {"own_change", own_change, true},
    {"own_ddl", own_ddl, true},
    {"unseen_ddl", unseen_ddl, true},
    {"unseen_unwatch", unseen_unwatch, true},
    {"own_ddl_wiring", own_ddl_wiring, true},
    {"own_ddl_watch", own_ddl_watch, true},
    {"tables_swap", tables_swap, true},
    {"tables_swap_untold", tables_swap_untold, true},
    {"locking_read", locking_read, true},
    {"put_undone", put_undone, true},
    {"foreign_partition", foreign_partition, true},
    {"session_settings", session_settings, true},
    {"in_flight", in_flight, true},
    {"late_writer", late_writer, true},
    {"vacuum", vacuum, true},
    {"triggers_off", triggers_off, true},
    {"durable_row", durable_row, true},
    {"remote_value", remote_value, true},
    {"remote_outdated", remote_outdated, true},
    {"ddl", ddl, true},
    {"lease", lease, true},
    {"prefix_race", prefix_race, true},
    {"stamp_memo", stamp_memo, true},
    {"schema_swap", schema_swap, true},
    {"set_up", [](Scene&) {}, true},
    {"prepare", prepare, false},
    {"commit_prepared", commit_prepared, false},
    {"look", look, false},
};

}  // namespace

int main(int argc, char** argv) {
    const std::string name = argc == 3 ? argv[2] : "";
    for (const Named& scenario : kAll) {
        if (name != scenario.name) continue;
        try {
            Scene scene(argv[1]);
            if (scenario.sets_up) scene.set_up();
            scenario.play(scene);
            return scene.wrong() == 0 ? 0 : 1;
        } catch (const SqlError& error) {
            std::printf("error %s: %s\n", error.state.c_str(), error.text.c_str());
            return 2;
        }
    }
    std::printf("scenarios CONNINFO NAME, of:");
    for (const Named& scenario : kAll) std::printf(" %s", scenario.name);
    std::printf("\n");
    return 2;
}
