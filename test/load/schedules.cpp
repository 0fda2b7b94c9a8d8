// Schedules that gave a wrong answer once, each the shortest way to it; `controls` plays them with all rules.
#include <memory>
#include <thread>

#include "scene.hpp"

namespace load {

namespace {

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
    s.hold_pauses();
    s.b.run(std::string("SET prompt_cache.pause_at = 'commit|tell'; ") + kSwapTables);
    s.b.send("COMMIT");
    s.wait_until_blocked(s.b);
    s.a.send("SELECT prompt_cache.prompt(1)");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    s.let_go();
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
        s.as_built(plain, std::string("built under ") + one.setting);
    }
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
    s.hold_pauses();
    s.b.run("SET prompt_cache.pause_at = 'commit|tell'");
    s.b.send(function("new"));
    s.wait_until_blocked(s.b);
    s.a.run("SELECT prompt_cache.prompt(1)");
    s.let_go();
    s.b.receive();
    for (Session* session : {&s.a, &s.c})
        s.as_built(*session, "after a function was replaced");
    s.b.run("RESET prompt_cache.pause_at");
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

}  // namespace

const std::vector<Scenario> kSchedules = {
    {"unseen_ddl", unseen_ddl},
    {"unseen_unwatch", unseen_unwatch},
    {"own_ddl_wiring", own_ddl_wiring},
    {"own_ddl_watch", own_ddl_watch},
    {"tables_swap", tables_swap},
    {"tables_swap_untold", tables_swap_untold},
    {"locking_read", locking_read},
    {"put_undone", put_undone},
    {"foreign_partition", foreign_partition},
    {"session_settings", session_settings},
    {"remote_outdated", remote_outdated},
    {"stamp_memo", stamp_memo},
    {"schema_swap", schema_swap},
};

}  // namespace load
