// Schedules about builders and namespaces that gave a wrong answer, or took the server down, once.
#include <thread>

#include "scene.hpp"

namespace load {

namespace {

// A namespace with this body of a PL/pgSQL builder, ttl 0; load.messages, with one row, is watched.
void builder(Scene& s, const std::string& name, const std::string& body) {
    s.c.run("INSERT INTO load.messages SELECT 'first' WHERE NOT EXISTS (SELECT FROM load.messages)");
    s.c.run("CREATE OR REPLACE FUNCTION load." + name + "(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$ " + body + " $$");
    s.c.run("SELECT prompt_cache.create_namespace($1, ('load.' || $1 || '(text)')::regprocedure, ttl => '0')", {name});
    s.c.run("SELECT prompt_cache.watch('load.messages', $1)", {name});
}

// Roles outlive a scene.
void make_role(Scene& s, const std::string& name) {
    s.c.run("DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '" + name + "') THEN CREATE ROLE " + name + "; END IF; END $$");
    s.c.run("GRANT USAGE ON SCHEMA load TO " + name);
}

void same_as_rebuilt(Scene& s, Session& session, const std::string& name, const std::string& when) {
    const Rows rows = session.run("SELECT prompt_cache.fetch($1, 'k'), prompt_cache.rebuild($1, 'k')", {name});
    s.expect(rows.text(0, 0) == rows.text(0, 1), when + ": \"" + rows.text(0, 0) + "\", not \"" + rows.text(0, 1) + "\"");
}

// An error of the moment that a builder catches says nothing of the data.
void caught_error(Scene& s) {
    builder(s, "careful",
            "BEGIN RETURN (SELECT body FROM load.messages); EXCEPTION WHEN OTHERS THEN RETURN 'unavailable'; END");
    s.a.run("SELECT prompt_cache.fetch('careful', 'other')");
    s.b.run("BEGIN; LOCK TABLE load.messages IN ACCESS EXCLUSIVE MODE");
    s.a.run("SET lock_timeout = '50ms'");
    s.a.run("SELECT prompt_cache.fetch('careful', 'k')");
    s.b.run("ROLLBACK");
    same_as_rebuilt(s, s.c, "careful", "after a lock that was not had");
}

// An expression's function that catches one.
void caught_in_expression(Scene& s) {
    s.c.run(
        "CREATE FUNCTION load.tone(t text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM FROM load.messages;"
        " RETURN t || ' kindly'; EXCEPTION WHEN OTHERS THEN RETURN t; END $$");
    s.c.run("SET client_min_messages = error");
    s.c.run("SELECT prompt_cache.attach('load.users', 'load.tenants', user_prompt => 'load.tone(system_prompt)')");
    s.a.run("SELECT prompt_cache.prompt(2)");
    s.b.run("BEGIN; LOCK TABLE load.messages IN ACCESS EXCLUSIVE MODE");
    s.a.run("SET lock_timeout = '50ms'");
    s.a.run("SELECT prompt_cache.prompt(1)");
    s.b.run("ROLLBACK");
    s.as_built(s.c, "after a lock that was not had");
}

// What nothing watches is as fresh as its time to live, counted from its snapshot.
void old_gap(Scene& s) {
    builder(s, "open", "BEGIN RETURN (SELECT system_prompt FROM load.users WHERE id = 1); END");
    s.c.run("SET client_min_messages = error; SELECT prompt_cache.detach()");
    s.a.run("SET client_min_messages = error; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.users");
    s.b.run("SET client_min_messages = error");
    s.b.run(kChange);
    s.a.run("SELECT prompt_cache.fetch('open', 'k')");
    same_as_rebuilt(s, s.b, "open", "built before its time");
    s.a.run("COMMIT");
}

// A temporary table is its session's.
void temporary_table(Scene& s) {
    builder(s, "scratch", "DECLARE r text; BEGIN EXECUTE 'SELECT v FROM scratch_of_session' INTO r; RETURN r;"
                          " EXCEPTION WHEN undefined_table THEN RETURN 'none'; END");
    s.a.run("CREATE TEMP TABLE scratch_of_session AS SELECT 'of a' AS v");
    s.a.run("SELECT prompt_cache.fetch('scratch', 'k')");
    same_as_rebuilt(s, s.b, "scratch", "in another session");
}

// A table of the widest kind, with all its system columns.
void widest_table(Scene& s) {
    s.c.run(
        "DO $$ BEGIN EXECUTE 'CREATE TABLE load.wide (' || (SELECT string_agg('c' || i || ' bool', ', ') FROM"
        " generate_series(1, 1600) i) || ')'; END $$; INSERT INTO load.wide DEFAULT VALUES");
    builder(s, "widest",
            "BEGIN RETURN (SELECT (x IS NULL)::text FROM (SELECT t.*, t.tableoid a1, t.ctid a2, t.xmin a3, t.xmax a4,"
            " t.cmin a5, t.cmax a6, t a7 FROM load.wide t OFFSET 0) x); END");
    s.c.run("SELECT prompt_cache.watch('load.wide', 'widest')");
    same_as_rebuilt(s, s.a, "widest", "of a wide table");
}

// A prompt inside of a prompt's expression: an error, where it once freed the plans in use.
void nested_prompt(Scene& s) {
    s.c.run(
        "CREATE FUNCTION load.h() RETURNS void LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM prompt_cache.clear(); END $$;"
        "CREATE FUNCTION load.fx(t text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN IF t <> 'outer' THEN RETURN t; END IF;"
        " PERFORM load.h(); RETURN t || prompt_cache.prompt(2); END $$; UPDATE load.users SET system_prompt = 'outer' WHERE id = 1");
    s.c.run("SET client_min_messages = error");
    s.c.run("SELECT prompt_cache.attach('load.users', 'load.tenants', user_prompt => 'load.fx(system_prompt)')");
    for (const char* call : {"SELECT prompt_cache.prompt(1)", "SELECT prompt_cache.build(1)"}) s.refused(s.a, call, "54001");
    s.exact(s.a, "another user", 2);
}

// A key's function that comes back while its expression is being planned.
void expression_within_itself(Scene& s) {
    s.c.run(
        "CREATE TABLE load.armed (n int); INSERT INTO load.armed VALUES (1);"
        "CREATE FUNCTION load.vol() RETURNS void LANGUAGE plpgsql VOLATILE AS $$ BEGIN IF EXISTS (SELECT FROM load.armed) THEN"
        " DELETE FROM load.armed; INSERT INTO load.messages VALUES ('nested'); END IF; END $$;"
        "CREATE FUNCTION load.imm(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM load.vol(); RETURN t; END $$");
    builder(s, "listed", "BEGIN RETURN (SELECT string_agg(body, ',' ORDER BY body) FROM load.messages); END");
    s.c.run("DELETE FROM load.armed");
    s.c.run("SELECT prompt_cache.watch('load.messages', 'listed', 'load.imm('''') || body')");
    s.c.run("INSERT INTO load.armed VALUES (1)");
    s.a.run("INSERT INTO load.messages VALUES ('x')");
    same_as_rebuilt(s, s.b, "listed", "after both rows");
}

// A collation is code too.
void collation_replaced(Scene& s) {
    s.c.run("CREATE COLLATION load.order (provider = icu, locale = 'und')");
    builder(s, "sorted", "BEGIN RETURN (SELECT string_agg(v, ',' ORDER BY v COLLATE load.order) FROM unnest('{a,A,b,B}'::text[]) v); END");
    s.a.run("SELECT prompt_cache.fetch('sorted', 'k')");
    s.c.run("BEGIN; DROP COLLATION load.order; CREATE COLLATION load.order (provider = icu, locale = 'und-u-kf-upper'); COMMIT");
    Session fresh(s.conninfo(), "scenario new session");
    same_as_rebuilt(s, fresh, "sorted", "after the collation");
}

// The right to read one namespace, by which another was built, is taken back.
void denied_within(Scene& s) {
    builder(s, "inner", "BEGIN RETURN (SELECT body FROM load.messages); END");
    builder(s, "outer", "BEGIN RETURN prompt_cache.fetch('inner', key); END");
    make_role(s, "scene_owner");
    s.c.run(
        "GRANT SELECT ON load.messages TO scene_owner;"
        "ALTER FUNCTION load.outer(text) OWNER TO scene_owner");
    s.c.run("SELECT prompt_cache.allow('scene_owner', 'inner'), prompt_cache.allow('scene_owner', 'outer')");
    s.a.run("SELECT prompt_cache.fetch('outer', 'k')");
    s.c.run("SELECT prompt_cache.deny('scene_owner', 'inner')");
    s.refused(s.b, "SELECT prompt_cache.fetch('outer', 'k')", "42501");
    s.c.run("SELECT prompt_cache.deny('scene_owner'); DROP OWNED BY scene_owner");
}

// Neither may somebody else make a namespace give other values.
void anothers_namespace(Scene& s) {
    builder(s, "ours", "BEGIN RETURN 'ours'; END");
    make_role(s, "scene_other");
    s.c.run(
        "GRANT USAGE ON SCHEMA prompt_cache TO scene_other;"
        "GRANT EXECUTE ON FUNCTION prompt_cache.create_namespace, prompt_cache.alter_namespace, prompt_cache.drop_namespace TO scene_other");
    s.c.run("CREATE SCHEMA theirs AUTHORIZATION scene_other");
    s.a.run("SET ROLE scene_other; CREATE FUNCTION theirs.make(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'theirs' $$");
    for (const char* call : {"SELECT prompt_cache.alter_namespace('ours', 'theirs.make(text)')",
                             "SELECT prompt_cache.alter_namespace('ours', ttl => '1 day')", "SELECT prompt_cache.drop_namespace('ours')"})
        s.refused(s.a, call, "42501");
    s.a.run("RESET ROLE");
    s.c.run("DROP OWNED BY scene_other");
}

// Who makes a temporary table in each transaction is served from memory too.
void temporary_each_time(Scene& s) {
    builder(s, "kept", "BEGIN RETURN (SELECT body FROM load.messages); END");
    for (int i = 0; i < 3; i++) {
        s.a.run("BEGIN; CREATE TEMP TABLE mine (n int) ON COMMIT DROP");
        const Rows rows = s.a.run("SELECT source FROM prompt_cache.get_or_build(1)");
        s.a.run("SELECT prompt_cache.fetch('kept', 'k')");
        s.a.run("COMMIT");
        s.expect(i == 0 || rows.text(0, 0) == "memory", "the prompt came from " + rows.text(0, 0));
    }
    s.expect(s.a.run("SELECT hits_memory = 2 FROM prompt_cache.stats WHERE namespace = 'kept'").flag(0, 0), "values were not kept");
}

// Looking after entries is not using them.
void verify_uses_nothing(Scene& s) {
    builder(s, "slides", "BEGIN RETURN (SELECT body FROM load.messages); END");
    s.c.run("SELECT prompt_cache.alter_namespace('slides', ttl => '8 s', sliding => true)");
    s.a.run("SELECT prompt_cache.fetch('slides', 'k')");
    const char* const look = "SELECT expires_at, hits_memory FROM prompt_cache.entries JOIN prompt_cache.stats USING (namespace) WHERE namespace = 'slides'";
    const Rows before = s.a.run(look);
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    s.a.run("SELECT prompt_cache.verify()");
    const Rows after = s.a.run(look);
    s.expect(before.text(0, 0).substr(0, 19) == after.text(0, 0).substr(0, 19) && before.text(0, 1) == after.text(0, 1), "verify() has put off the end of what it looked at");
}

// A namespace goes while somebody wants to watch a table for it.
void watch_of_dropped(Scene& s) {
    s.c.run("SELECT prompt_cache.create_namespace('leaves')");
    s.a.run("BEGIN; SELECT prompt_cache.drop_namespace('leaves')");
    s.b.send("SELECT prompt_cache.watch('load.users', 'leaves')");
    s.wait_until_blocked(s.b);
    s.a.run("COMMIT");
    try {
        s.b.receive();
        s.expect(false, "a watch for nothing");
    } catch (const SqlError& error) {
        s.expect(error.state == "42704", error.text);
    }
    s.b.recover();
    s.expect(s.c.run("SELECT FROM pg_trigger WHERE tgname LIKE 'prompt\\_cache\\_watch%' AND tgrelid = 'load.users'::regclass").count() == 0, "triggers were left");
}

// What a prepared transaction changes becomes part of something before it commits.
void prepared_before(Scene& s) {
    s.c.run("SELECT prompt_cache.detach()");
    s.c.run("CREATE FUNCTION load.f(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 'old ' || t; END $$");
    s.b.run(
        "BEGIN; CREATE OR REPLACE FUNCTION load.f(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 'new ' || t; END $$;"
        " PREPARE TRANSACTION 'scenario'");
    s.c.run("SELECT prompt_cache.attach('load.users', NULL, user_prompt => 'load.f(system_prompt)')");
    s.a.run("SELECT prompt_cache.prompt(1)");
    s.b.run("COMMIT PREPARED 'scenario'");
    Session fresh(s.conninfo(), "scenario new session");
    s.as_built(fresh, "after COMMIT PREPARED");
}

// A namespace is made while the commit of its builder's new version waits, having asked what the builders are.
void made_beside_commit(Scene& s) {
    const auto function = [](const char* version) {
        return std::string("CREATE OR REPLACE FUNCTION load.note(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN '") +
               version + " note'; END $$";
    };
    s.c.run(function("old"));
    s.hold_pauses();
    s.b.run("SET prompt_cache.pause_at = 'mark|commit'");
    s.b.run(std::string("BEGIN; ") + kChange + "; " + function("new"));
    s.b.send("COMMIT");
    s.wait_until_blocked(s.b);
    s.a.send("SELECT prompt_cache.create_namespace('notes', 'load.note(text)', ttl => '0')");
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const bool waits = s.a.busy();
    if (!waits) {
        s.a.receive();
        s.a.run("SELECT prompt_cache.fetch('notes', 'k')");
    }
    s.let_go();
    s.b.receive();
    if (waits) s.a.receive();
    Session fresh(s.conninfo(), "scenario new session");
    same_as_rebuilt(s, fresh, "notes", "after the commit");
    s.b.run("RESET prompt_cache.pause_at");
}

// Without the table of changes nothing is proved.
void no_proof(Scene& s) {
    s.a.run("SET prompt_cache.memory = off");
    s.c.run("ALTER TABLE prompt_cache.tag_nonce RENAME TO hidden");
    s.b.run("SELECT prompt_cache.prompt(1)");
    s.b.run("SELECT prompt_cache.flush()");
    s.c.run("ALTER TABLE prompt_cache.hidden RENAME TO tag_nonce");
    s.b.run(kChange);
    s.c.run("ALTER TABLE prompt_cache.tag_nonce RENAME TO hidden");
    s.exact(s.a, "with the table hidden again");
    s.c.run("ALTER TABLE prompt_cache.hidden RENAME TO tag_nonce");
    s.c.run("ALTER TABLE prompt_cache.tag_nonce SET UNLOGGED");
    s.b.run("SELECT prompt_cache.prompt(2)");
    s.expect(s.b.run("SELECT prompt_cache.flush()").number(0, 0) == 0, "rows were written that a crash leaves without proof");
}

// Two who change namespaces wait for each other one way only.
void migration_beside_drop(Scene& s) {
    s.c.run("SELECT prompt_cache.create_namespace('old')");
    s.a.run("BEGIN; SELECT prompt_cache.create_namespace('new')");
    s.b.send("SELECT prompt_cache.drop_namespace('old')");
    s.wait_until_blocked(s.b);
    s.a.run("SELECT prompt_cache.watch('load.messages', 'new')");
    s.a.run("COMMIT");
    s.b.receive();
}

// While a namespace is being made a temporary table is still nobody's business.
void temporary_beside_create(Scene& s) {
    s.b.run("CREATE TEMP TABLE before (n int)");
    s.exact(s.a, "at first");
    s.c.run("BEGIN; SELECT prompt_cache.create_namespace('new')");
    s.b.run("CREATE TEMP TABLE beside (n int)");
    s.expect(s.exact(s.a, "beside it") == "memory", "a temporary table emptied the cache");
    s.c.run("COMMIT");
}

// An expression that is refused once it is planned leaves nothing behind.
void refused_when_planned(Scene& s) {
    s.c.run("CREATE FUNCTION load.f(t text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'x' || t $$; SET client_min_messages = error");
    s.c.run("SELECT prompt_cache.attach('load.users', 'load.tenants', user_prompt => 'load.f(system_prompt)')");
    s.c.run("CREATE OR REPLACE FUNCTION load.f(t text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_user::text || t $$");
    for (int i = 0; i < 50; i++) s.a.run("UPDATE load.users SET system_prompt = system_prompt || '.'");
    const Rows rows = s.a.run("SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'CachedExpression'");
    s.expect(rows.number(0, 0) < 10, rows.text(0, 0) + " plans were left");
}

// A value made from one in memory, which takes no lock on its table, is stored after a TRUNCATE of it.
void truncated_meanwhile(Scene& s) {
    builder(s, "inner", "BEGIN RETURN (SELECT body FROM load.messages); END");
    builder(s, "outer", "DECLARE r text := prompt_cache.fetch('inner', key); BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN r; END");
    s.a.run("SELECT prompt_cache.fetch('inner', 'k'), prompt_cache.fetch('outer', 'other')");
    Session old_snapshot(s.conninfo(), "scenario old snapshot");
    s.b.run("SELECT pg_advisory_lock(77)");
    old_snapshot.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM load.tenants");
    s.a.send("SELECT prompt_cache.fetch('outer', 'k')");
    s.wait_until_blocked(s.a);
    s.c.run("TRUNCATE load.messages");
    s.b.run("SELECT pg_advisory_unlock(77)");
    s.a.receive();
    same_as_rebuilt(s, old_snapshot, "outer", "in a snapshot of before");
    old_snapshot.run("COMMIT");
}

// A value made from one that ends lives no longer in Redis.
void remote_deadline(Scene& s) {
    builder(s, "inner", "BEGIN RETURN (SELECT body FROM load.messages); END");
    builder(s, "outer", "BEGIN RETURN prompt_cache.fetch('inner', key); END");
    s.c.run("SELECT prompt_cache.alter_namespace('inner', ttl => '3 s', redis => false), prompt_cache.alter_namespace('outer', ttl => '1 h')");
    s.a.run("SELECT prompt_cache.fetch('outer', 'k')");
    s.b.run("SET prompt_cache.memory = off; SET prompt_cache.database = off");
    const auto source = [&] { return s.b.run("SELECT source FROM prompt_cache.fetch_many('outer', '{k}')").text(0, 0); };
    s.expect(source() == "redis", "at first: not answered by Redis");
    std::this_thread::sleep_for(std::chrono::milliseconds(3200));
    s.expect(source() == "built", "in Redis it outlives what it was made from");
}

}  // namespace

const std::vector<Scenario> kBuilderSchedules = {
    {"caught_error", caught_error},
    {"caught_in_expression", caught_in_expression},
    {"old_gap", old_gap},
    {"temporary_table", temporary_table},
    {"widest_table", widest_table},
    {"nested_prompt", nested_prompt},
    {"expression_within_itself", expression_within_itself},
    {"collation_replaced", collation_replaced},
    {"denied_within", denied_within},
    {"anothers_namespace", anothers_namespace},
    {"temporary_each_time", temporary_each_time},
    {"verify_uses_nothing", verify_uses_nothing},
    {"watch_of_dropped", watch_of_dropped},
    {"prepared_before", prepared_before},
    {"made_beside_commit", made_beside_commit},
    {"no_proof", no_proof},
    {"migration_beside_drop", migration_beside_drop},
    {"temporary_beside_create", temporary_beside_create},
    {"refused_when_planned", refused_when_planned},
    {"truncated_meanwhile", truncated_meanwhile},
    {"remote_deadline", remote_deadline},
};

}  // namespace load
