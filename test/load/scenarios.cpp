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

// The same with the trigger of a watch.
void unseen_unwatch(Scene& s) {
    s.c.run("INSERT INTO load.messages VALUES ('first')");
    s.c.run(
        "CREATE FUNCTION load.one(key text) RETURNS text LANGUAGE sql STABLE AS"
        " $$ SELECT body FROM load.messages WHERE key <> '' $$");
    s.c.run("SELECT prompt_cache.create_namespace('ones', 'load.one(text)')");
    s.c.run("SELECT prompt_cache.watch('load.messages', 'ones')");
    const auto exact = [&s](Session& session, const std::string& when, const std::string& key) {
        const Rows rows = session.run("SELECT prompt_cache.fetch('ones', $1), body FROM load.messages", {key});
        s.expect(rows.text(0, 0) == rows.text(0, 1), when + ": \"" + rows.text(0, 0) + "\"");
    };
    Session old_snapshot(s.conninfo(), "scenario old snapshot");
    for (Session* session : {&s.a, &old_snapshot})
        session->run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.tenants");
    s.b.run("SELECT prompt_cache.unwatch('load.messages', 'ones')");
    exact(old_snapshot, "in a snapshot of before", "cached");
    s.a.run("UPDATE load.messages SET body = 'second'");
    exact(s.a, "own change of what is cached, no longer watched", "cached");
    exact(s.a, "own change of what is not cached, no longer watched", "other");
    exact(old_snapshot, "somebody else's uncommitted change", "other");
    s.a.run("COMMIT");
    exact(old_snapshot, "somebody else's change", "other");
    old_snapshot.run("COMMIT");
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
    {"in_flight", in_flight, true},
    {"late_writer", late_writer, true},
    {"vacuum", vacuum, true},
    {"triggers_off", triggers_off, true},
    {"durable_row", durable_row, true},
    {"remote_value", remote_value, true},
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
