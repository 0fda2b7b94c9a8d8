// Scenarios: for each rule of the protocol the shortest way to a wrong answer without it. Deterministic:
// every step waits for the one before it. Run by `controls`, once with all rules and once with the rule taken
// out of a test build.
//
//   scenarios CONNINFO NAME     exit code 0: every answer was exact; 1: a wrong one, which is printed
//   scenarios --schedules       the names of those that need all rules
#include <cstdio>
#include <memory>

#include "scene.hpp"

namespace {

using namespace load;

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

// Two rows, of which the first is built anew before the second is asked for.
void ddl_of_two(Scene& s) {
    for (const int id : {1, 2}) s.exact(s.a, "before", id);
    s.b.run("BEGIN; ALTER TABLE load.users DISABLE TRIGGER ALL; UPDATE load.users SET system_prompt = 'behind'"
            " WHERE id IN (1, 2); ALTER TABLE load.users ENABLE TRIGGER ALL; COMMIT");
    for (const int id : {1, 2}) s.exact(s.a, "after a change that only DDL tells of", id);
}

void ddl_and_old_snapshot(Scene& s) {
    Session old_snapshot(s.conninfo(), "scenario old snapshot");
    old_snapshot.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.users");
    s.b.run(std::string("BEGIN; ALTER TABLE load.users DISABLE TRIGGER ALL; ") + kChange +
            "; ALTER TABLE load.users ENABLE ALWAYS TRIGGER prompt_cache_user_changed;"
            " ALTER TABLE load.users ENABLE ALWAYS TRIGGER prompt_cache_user_truncated; COMMIT");
    for (int i = 0; i < 2; i++) s.exact(s.a, "after a change that only DDL tells of");
    s.exact(old_snapshot, "in a snapshot of before");
    old_snapshot.run("COMMIT");
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

// What a builder makes of its caller's session must not be given to another caller.
void callers_session(Scene& s) {
    s.c.run(
        "CREATE FUNCTION load.who(key text) RETURNS text LANGUAGE plpgsql STABLE AS"
        " $$ BEGIN RETURN current_setting('load.login', true); END $$");
    s.c.run("SELECT prompt_cache.create_namespace('who', 'load.who(text)')");
    for (Session* session : {&s.a, &s.b}) session->run("SET client_min_messages = warning");
    s.a.run("SET load.login = 'a'; SELECT prompt_cache.fetch('who', 'k')");
    const Rows rows = s.b.run("SELECT prompt_cache.fetch('who', 'k') IS DISTINCT FROM current_setting('load.login', true)");
    s.expect(!rows.flag(0, 0), "another caller's value");
}

// A value that its own transaction has overtaken, put with a lease and without one.
void own_order(Scene& s) {
    s.c.run("INSERT INTO load.messages VALUES ('first')");
    s.c.run("SELECT prompt_cache.create_namespace('names'), prompt_cache.watch('load.messages', 'names')");
    s.c.run(
        "CREATE FUNCTION load.set(value text) RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN UPDATE load.messages SET body = value; RETURN true; END $$");
    const auto look = [&](const std::string& when) {
        const Rows rows = s.b.run("SELECT g.found AND g.value <> body FROM load.messages, prompt_cache.get('names', 'k') g");
        s.expect(!rows.flag(0, 0), when + ": a value that is no more");
    };
    s.a.run("BEGIN");
    const std::string id = s.a.run("SELECT prompt_cache.lease('names', 'k')").text(0, 0);
    const std::string read = s.a.run("SELECT body FROM load.messages").text(0, 0);
    s.a.run("SELECT load.set('second')");
    s.a.run("SELECT prompt_cache.put('names', 'k', $1, lease => $2)", {read, id});
    s.a.run("COMMIT");
    look("put with a lease");
    s.a.run("SELECT load.set('third'), prompt_cache.put('names', 'k', (SELECT body FROM load.messages))");
    look("put by a statement that began before the change");
}

// Anybody who may put must not decide what everybody fetches; and verify() would see it.
void put_as_built(Scene& s) {
    s.c.run("INSERT INTO load.messages VALUES ('first')");
    s.c.run("CREATE FUNCTION load.one(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT body FROM load.messages $$");
    s.c.run("SELECT prompt_cache.create_namespace('ones', 'load.one(text)'), prompt_cache.watch('load.messages', 'ones')");
    s.a.run("SELECT prompt_cache.put('ones', 'k', 'poison')");
    const bool wrong = s.b.run("SELECT prompt_cache.fetch('ones', 'k') <> prompt_cache.rebuild('ones', 'k')").flag(0, 0);
    s.expect(!wrong, "poison");
    if (wrong != (s.b.run("SELECT FROM prompt_cache.verify()").count() > 0)) throw SqlError{"", "verify() does not see it"};
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

const std::vector<Scenario> kRules = {
    {"fill_race", fill_race},
    {"pushed_out", pushed_out},
    {"change_is_seen", change_is_seen},
    {"old_snapshot", old_snapshot},
    {"own_change", own_change},
    {"own_ddl", own_ddl},
    {"in_flight", in_flight},
    {"late_writer", late_writer},
    {"vacuum", vacuum},
    {"triggers_off", triggers_off},
    {"durable_row", durable_row},
    {"remote_value", remote_value},
    {"ddl", ddl},
    {"ddl_of_two", ddl_of_two},
    {"ddl_and_old_snapshot", ddl_and_old_snapshot},
    {"lease", lease},
    {"prefix_race", prefix_race},
    {"callers_session", callers_session},
    {"own_order", own_order},
    {"put_as_built", put_as_built},
    {"set_up", [](Scene&) {}},
    {"prepare", prepare, false},
    {"commit_prepared", commit_prepared, false},
    {"look", look, false},
};

int play(const char* conninfo, const Scenario& scenario) {
    try {
        Scene scene(conninfo);
        if (scenario.sets_up) scene.set_up();
        scenario.play(scene);
        return scene.wrong() == 0 ? 0 : 1;
    } catch (const SqlError& error) {
        std::printf("error %s: %s\n", error.state.c_str(), error.text.c_str());
        return 2;
    }
}

void print_names(const std::vector<Scenario>& scenarios) {
    for (const Scenario& scenario : scenarios) std::printf(" %s", scenario.name);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string last = argc > 1 ? argv[argc - 1] : "";
    if (last == "--schedules") {
        print_names(kSchedules);
        print_names(kBuilderSchedules);
        std::printf("\n");
        return 0;
    }
    if (argc == 3)
        for (const std::vector<Scenario>* scenarios : {&kRules, &kSchedules, &kBuilderSchedules})
            for (const Scenario& scenario : *scenarios)
                if (last == scenario.name) return play(argv[1], scenario);
    std::printf("scenarios CONNINFO NAME, of:");
    for (const std::vector<Scenario>* scenarios : {&kRules, &kSchedules, &kBuilderSchedules}) print_names(*scenarios);
    std::printf("\n");
    return 2;
}
