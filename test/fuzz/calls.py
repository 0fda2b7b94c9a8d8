#!/usr/bin/env python3
"""Calls every function of the extension, internal ones too, with random and hostile arguments of its types, from several
sessions at once: in transactions of every kind, aborted ones, cursors, blocks that catch errors, beside DDL and damaged tables.
Errors are what is expected; the caller of this script looks into the server's log for what is not.

    calls.py --calls 10000 --seed 1 --schema schema.sql [--without triggers,damage,ddl]

Connects as PGHOST and PGPORT say, to the database "fuzz", as postgres, smith and backend. One seed gives the same statements;
how the sessions meet is left to the machine."""
import argparse
import collections
import json
import random
import subprocess
import sys
import threading

PSQL = ["psql", "-XqAt", "-d", "fuzz"]
CHUNK = 100  # blocks that one psql is given

NAMESPACES = ["notes", "events", "nested", "fails", "dynamic", "many", "free", "free too", "prompt", "no such", ""]
TABLES = ["app.users", "app.tenants", "app.notes", "app.events", "app.events_a", "app.many", "app.unlogged", 'app."odd ""table"', "app.seen",
          "app.counter", "app.users_pkey", "app.pair", "pg_catalog.pg_class", "pg_catalog.pg_proc", "prompt_cache.watch", "prompt_cache.tag_nonce",
          "prompt_cache.attachment", "prompt_cache.stats", "information_schema.tables"]
COLUMNS = ["id", "user_id", "tenant_id", "system_prompt", "body", "kind", "payload", "tags", "owner", "other", "a b", "x; --", "ctid", "tableoid"]
EXPRESSIONS = ["lower(system_prompt)", "id + 1", "body ->> 'n'", "1 / (id - id)", "(SELECT 1)", "id) FROM app.users; SELECT (1", "count(*)",
               "row_number() OVER ()", "generate_series(1, 3)", "$1", "app.note('x')", "now()", "random()", "users", "users.*", "ROW(1, 2)", "'text'",
               "CASE WHEN id > 0 THEN 'a' END", "id::text COLLATE \"C\"", "prompt_cache.fetch('many', id::text)", "NULL", "id = ANY ('{1,2}')"]
STATEMENTS = ["SELECT 1::text", "SELECT body::text FROM app.notes LIMIT 1", "SELECT count(*)::text FROM app.users", "DELETE FROM app.notes",
              "SELECT pg_sleep(0.01)::text", "SELECT prompt_cache.prompt(3)", "SELECT prompt_cache.clear()::text", "COMMIT", "ROLLBACK", "SELEC",
              "SELECT (1/0)::text", "LOCK TABLE app.users", "SELECT prompt_cache.fetch('dynamic', 'SELECT 2::text')", "DROP TABLE app.notes",
              "SELECT prompt_cache.put('free', 'k', 'v')::text", "SET work_mem = '1MB'", "SELECT id::text FROM app.many FOR UPDATE", ""]
HUGE = ["repeat('x', 1048576)", "repeat(chr(8364), 400000)", "repeat('y', 1023)", "repeat('y', 1025)", "repeat(E'\\\\', 5000)", "repeat('(', 20000)",
        "repeat('1+', 3000) || '1'", "repeat('n', 63)", "repeat('n', 64)"]


def literal(text):
    return "'" + text.replace("'", "''") + "'"


class Values:
    """SQL expressions of a type: mostly such as get far, else whatever the type allows."""

    def __init__(self, rng):
        self.rng = rng

    def pick(self, *choices):
        return self.rng.choice(choices)

    def text(self, name=""):
        r = self.rng
        if r.random() < 0.6:
            if "namespace" in name or name == "name":
                return literal(r.choice(NAMESPACES[:8]))
            if "key" in name or name == "prefix":
                return literal(self.pick("a", "b", "1", "42", "7", "", str(r.randrange(60)), "c4ca4238-a0b9-2382-0dcc-509a6f75849b", "id", "kind",
                                         r.choice(STATEMENTS), r.choice(EXPRESSIONS), r.choice(COLUMNS)))
            if "prompt" in name or "expression" in name or name in ("col", "column"):
                return literal(r.choice(COLUMNS + EXPRESSIONS))
            if "tag" in name:
                return literal(self.pick("tag/a", "tag/b", "*", "user"))
            if name == "role":
                return literal(self.pick("user", "tenant", "application"))
        return self.pick("NULL", "''", literal(r.choice(NAMESPACES)), literal(r.choice(TABLES)), literal(r.choice(EXPRESSIONS)), literal(r.choice(COLUMNS)),
                         literal(r.choice(STATEMENTS)), literal(str(r.randrange(-2**64, 2**64))), "' 42'", "'042'", "'%'", "'\\'", "E'\\x01\\x7f\\n'",
                         "chr(%d)" % self.pick(1, 127, 128, 8364, 65536, 1114109), "'a''b\"c'", "'{}'", "'1e400'", "'NaN'", r.choice(HUGE))

    def number(self, bits):
        top = 2 ** (bits - 1)
        value = self.pick(0, 1, -1, 2, 3, 42, 7, 100, self.rng.randrange(60), self.rng.randrange(-top, top), top - 1, -top, 1 - top, 2 ** 31 - 1)
        return self.pick("NULL", *["'%d'::%s" % (max(-top, min(top - 1, value)), {16: "smallint", 32: "integer", 64: "bigint"}[bits])] * 7)

    def oid(self):
        return self.pick("NULL", "0", "1", "4294967295", "1259", "1255", str(self.rng.randrange(2**32)), str(self.rng.randrange(16000, 20000)),
                         "'%s'::regclass::oid" % self.rng.choice(TABLES).replace("'", "''"), "'app.note'::regproc::oid",
                         "(SELECT max(oid) FROM pg_class WHERE relpersistence = 't')", "(SELECT max(oid) FROM pg_type)", "(SELECT max(oid) FROM pg_proc)",
                         "(SELECT max(reltoastrelid) FROM pg_class)", "(SELECT max(oid) FROM pg_class)")

    def array(self, of, name):
        some = ", ".join(self.value(of, name) for _ in range(self.rng.randrange(1, 5)))
        return self.pick("NULL", "'{}'::%s[]" % of, "'{NULL}'::%s[]" % of, "ARRAY[%s]::%s[]" % (some, of), "ARRAY[%s, NULL]::%s[]" % (some, of),
                         "ARRAY[ARRAY[%s], ARRAY[%s]]::%s[]" % (some, some, of), "('[-5:-4]={1,2}'::text[])::%s[]" % of,
                         "array_fill(%s::%s, ARRAY[3000])" % (self.value(of, name), of), "ARRAY[ARRAY[]::%s[]]" % of)

    def value(self, type_, name=""):
        r = self.rng
        if type_.endswith("[]"):
            return self.array(type_[:-2], name)
        if type_ in ("text", "name", "character varying"):
            return "%s::%s" % (self.text(name), type_)
        if type_ in ("bigint", "integer", "smallint"):
            return self.number({"bigint": 64, "integer": 32, "smallint": 16}[type_])
        if type_ == "oid":
            return "(%s)::oid" % self.oid()
        if type_ == "regclass":
            return self.pick("to_regclass(%s)" % literal(r.choice(TABLES)), "%s::regclass" % literal(r.choice(TABLES)), "(%s)::oid::regclass" % self.oid())
        if type_ == "regprocedure":
            f = self.pick("note", "event", "nested", "fails", "dynamic", "many")
            return self.pick("NULL", "'app.%s(text)'::regprocedure" % f, "'app.%s(text)'::regprocedure" % f, "(%s)::oid::regprocedure" % self.oid(),
                             "'pg_catalog.upper(text)'::regprocedure", "'pg_catalog.count(\"any\")'::regprocedure", "to_regprocedure('no(text)')")
        if type_ == "regrole":
            return self.pick("NULL", "'backend'::regrole", "'smith'::regrole", "'postgres'::regrole", "'pg_monitor'::regrole", "(%s)::oid::regrole" % self.oid())
        if type_ == "boolean":
            return self.pick("NULL", "true", "false", "true")
        if type_ == "interval":
            return self.pick("NULL", *("'%s'::interval" % i for i in ("0", "1 min", "-1 s", "1 us", "100 years", "178000000 years", "-178000000 years",
                                                                       "1 mon -30 days", "5 s", "1 h")))
        if type_ == "timestamp with time zone":
            return self.pick("NULL", "now()", "'infinity'::timestamptz", "'-infinity'::timestamptz", "'4713-01-01 BC'::timestamptz")
        if type_ == "bytea":
            return self.pick("NULL", "''::bytea", "'\\x00'::bytea", "'\\x7573657200757365725f696400'::bytea", "decode(repeat('00ff', 2000), 'hex')")
        if type_ == "prompt_cache.watch":
            return self.pick("NULL::prompt_cache.watch", "(SELECT w FROM prompt_cache.watch w LIMIT 1)", "ROW(%s, %s, %s, %s, %s)::prompt_cache.watch" % (
                self.value("text", "namespace"), self.value("regclass"), self.value("text", "key"), self.value("text[]", "column"), self.value("text[]", "column")))
        return "NULL"


class Statements:
    def __init__(self, rng, functions, columns, settings, without):
        self.rng, self.values = rng, Values(rng)
        self.functions, self.columns, self.settings = functions, columns, settings
        self.kinds = [(kind, weight) for kind, weight in (("call", 20), ("transaction", 6), ("write", 4), ("set", 1), ("damage", 1), ("ddl", 1), ("triggers", 1))
                      if kind not in without]

    def block(self):
        kinds, weights = zip(*self.kinds)
        return getattr(self, self.rng.choices(kinds, weights)[0])()

    def invocation(self):
        f = self.rng.choice(self.functions)
        count = len(f["types"]) - self.rng.randrange(f["defaults"] + 1)
        names = f["names"] or [""] * count
        return "prompt_cache.%s(%s)" % (f["name"], ", ".join(self.values.value(t, n) for t, n in zip(f["types"][:count], names)))

    def call(self):
        a, b, pick, n = self.invocation(), self.invocation(), self.values.pick, self.rng.randrange(4)
        return pick(*["SELECT %s;" % a, "SELECT * FROM %s;" % a] * 5,
                    "SELECT * FROM %s LIMIT %d;" % (a, n),
                    "SELECT %s, %s;" % (a, b),
                    "SELECT %s FROM generate_series(1, %d);" % (a, n),
                    "SELECT count(*) FROM app.users u WHERE %s IS NOT NULL;" % a,
                    "SELECT * FROM %s x, LATERAL %s y;" % (a, b),
                    "EXPLAIN (ANALYZE, VERBOSE) SELECT %s;" % a,
                    "COPY (SELECT %s) TO STDOUT;" % a,
                    "DO $do$ BEGIN PERFORM %s; EXCEPTION WHEN OTHERS THEN PERFORM %s; END $do$;" % (a, b),
                    "DO $do$ BEGIN PERFORM %s; COMMIT; PERFORM %s; ROLLBACK; END $do$;" % (a, b),
                    "PREPARE p AS SELECT %s; EXECUTE p; EXECUTE p; DEALLOCATE p;" % a,
                    "BEGIN; DECLARE c%s CURSOR FOR SELECT * FROM %s; FETCH %d FROM c; SELECT %s; FETCH ALL FROM c; COMMIT; FETCH 1 FROM c; CLOSE ALL;"
                    % (pick("", " SCROLL", " NO SCROLL"), a, n, b),
                    "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT %s FROM generate_series(1, 3); COMMIT; FETCH ALL FROM c; CLOSE ALL;" % a,
                    "CREATE TEMP TABLE IF NOT EXISTS made AS SELECT * FROM %s; DROP TABLE IF EXISTS made;" % a,
                    "SELECT * FROM prompt_cache.%s ORDER BY random() LIMIT 3;" % pick("stats", "entries", "attachments", "namespaces", "watch", "tag_nonce"))

    def write(self):
        v, n = self.values, self.rng.randrange(60)
        return v.pick("UPDATE app.users SET system_prompt = %s WHERE user_id = %d;" % (v.value("text"), n),
                      "UPDATE app.users SET user_id = -user_id, tenant_id = %s WHERE user_id %% 7 = %d;" % (v.number(64), n % 7),
                      "INSERT INTO app.users VALUES (%d, 1, 'new', 1) ON CONFLICT (user_id) DO UPDATE SET system_prompt = prompt_cache.prompt(%d);" % (n, n),
                      "DELETE FROM app.users WHERE user_id = %d RETURNING prompt_cache.prompt(user_id), %s;" % (n, self.invocation()),
                      "UPDATE app.notes SET body = %s WHERE owner = 'o1';" % v.pick("NULL", "'{}'", "'{\"n\": 1}'", "to_jsonb(repeat('x', 300000))"),
                      "UPDATE app.events SET kind = %s WHERE id = %d;" % (v.pick("'a'", "'b'", "'d'", "kind"), n % 30),
                      "WITH w AS (UPDATE app.many SET system_prompt = 'w' WHERE id = %d RETURNING id) SELECT prompt_cache.fetch('many', id::text) FROM w;" % n,
                      "MERGE INTO app.tenants t USING generate_series(%d, %d) s ON t.id = s WHEN MATCHED THEN UPDATE SET system_prompt = s WHEN NOT MATCHED THEN INSERT VALUES (s, 'm');" % (n, n + 2),
                      "TRUNCATE app.%s;" % v.pick("tenants", "events_a", "events", "notes"),
                      "COPY app.many FROM PROGRAM 'echo %d,copied' WITH (FORMAT csv);" % (1000 + n),
                      "SELECT system_prompt FROM app.users WHERE user_id = %d FOR UPDATE;" % n)

    def set(self):
        name, values = self.rng.choice(self.settings)
        return "SET %s%s = %s;" % (self.values.pick("", "LOCAL "), name, literal(self.rng.choice(values)))

    def transaction(self):
        pick = self.values.pick
        lines = ["BEGIN %s %s;" % (pick("", "", "ISOLATION LEVEL REPEATABLE READ", "ISOLATION LEVEL SERIALIZABLE"), pick("", "", "", "READ ONLY", "READ ONLY DEFERRABLE"))]
        for _ in range(self.rng.randrange(1, 8)):
            lines.append(pick(*["SELECT %s;" % self.invocation()] * 5, self.write(), self.write(), "SAVEPOINT s;", "ROLLBACK TO s;", "RELEASE s;",
                              "SELECT 1 / 0;", "SET CONSTRAINTS ALL IMMEDIATE;", self.set(), "CREATE TEMP TABLE IF NOT EXISTS users (user_id int);",
                              *([self.ddl()] if any(kind == "ddl" for kind, _ in self.kinds) else [])))
        end = "p%d" % self.rng.randrange(10)
        lines.append(pick("COMMIT;", "COMMIT;", "ROLLBACK;", "COMMIT AND CHAIN; SELECT %s; ROLLBACK;" % self.invocation(),
                          "PREPARE TRANSACTION '%s'; SELECT %s; %s PREPARED '%s';" % (end, self.invocation(), pick("COMMIT", "ROLLBACK"), end)))
        return " ".join(lines) + " ROLLBACK;"

    def damage(self):
        """Rows that the extension would not write, in its own tables."""
        table = self.rng.choice(sorted(self.columns))
        columns = [c for c in self.columns[table] if self.rng.random() < 0.9]
        if not columns:
            return "DELETE FROM prompt_cache.%s WHERE random() < 0.2;" % table
        values = [self.values.value(c["type"], c["name"]) for c in columns]
        return self.values.pick("INSERT INTO prompt_cache.%s (%s) VALUES (%s) ON CONFLICT DO NOTHING;" % (table, ", ".join(c["name"] for c in columns), ", ".join(values)),
                                "UPDATE prompt_cache.%s SET %s = %s WHERE random() < 0.5;" % (table, columns[0]["name"], values[0]),
                                "DELETE FROM prompt_cache.%s WHERE random() < 0.2;" % table)

    def ddl(self):
        pick, table = self.values.pick, self.values.pick("users", "tenants", "notes", "events", "many")
        column = self.rng.choice(COLUMNS[:10])
        return pick("ALTER TABLE app.%s RENAME %s TO renamed;" % (table, column), "ALTER TABLE app.%s RENAME renamed TO %s;" % (table, column),
                    "ALTER TABLE app.%s DROP COLUMN %s CASCADE;" % (table, column), "ALTER TABLE app.%s ADD COLUMN IF NOT EXISTS added int DEFAULT 3;" % table,
                    "ALTER TABLE app.%s ALTER COLUMN %s TYPE %s USING NULL;" % (table, column, pick("int", "bigint", "app.short", "bytea", "text[]")),
                    "ALTER TABLE app.%s DISABLE TRIGGER ALL;" % table, "ALTER TABLE app.%s ENABLE TRIGGER ALL;" % table,
                    "ALTER TABLE app.events DETACH PARTITION app.events_a;", "ALTER TABLE app.events ATTACH PARTITION app.events_a FOR VALUES IN ('a');",
                    "CREATE TABLE IF NOT EXISTS app.events_b PARTITION OF app.events FOR VALUES IN ('b');", "DROP TABLE IF EXISTS app.events_b;",
                    "CREATE OR REPLACE FUNCTION app.note(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT '%d' $$;" % self.rng.randrange(9),
                    "DROP FUNCTION IF EXISTS app.%s(text);" % pick("note", "event", "many"), "ALTER FUNCTION app.event(text) VOLATILE;",
                    "ALTER TABLE app.%s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;" % table, "ALTER SCHEMA app RENAME TO other;", "ALTER SCHEMA other RENAME TO app;",
                    "BEGIN; DROP EXTENSION prompt_cache CASCADE; SELECT 1; ROLLBACK;", "ALTER TABLE app.many SET UNLOGGED;", "VACUUM (FREEZE) prompt_cache.tag_nonce;",
                    "CREATE INDEX ON app.%s (%s);" % (table, column), "REINDEX TABLE app.%s;" % table, "DISCARD ALL;", "ANALYZE app.%s;" % table)

    def triggers(self):
        """Our trigger function with other arguments, at other events, on a table with columns of other types."""
        pick = self.values.pick
        types = ["int", "bigint", "text", "name", "uuid", "bytea", "text[]", "jsonb", "point", "boolean", "app.pair", "app.short", "numeric", "\"char\"", "oid"]
        columns = self.rng.sample(COLUMNS[:10], 4)
        table = pick("app", "pg_temp") + ".triggered%d" % self.rng.randrange(10)
        kinds = ["user", "tenant", "application", "wiring", "namespaces", "watch", "watch", "watch", "x", ""]
        arguments = [literal(a) for a in [self.rng.choice(kinds)] + [pick(*columns * 10, *NAMESPACES[:4] * 4, *EXPRESSIONS, "")
                                                                    for _ in range(self.rng.randrange(6))]]
        when = pick("AFTER INSERT OR UPDATE OR DELETE", "AFTER INSERT OR UPDATE OR DELETE", "BEFORE INSERT OR UPDATE OR DELETE", "AFTER UPDATE", "BEFORE TRUNCATE", "AFTER TRUNCATE")
        level = "STATEMENT" if "TRUNCATE" in when else pick("ROW", "ROW", "ROW", "STATEMENT")
        return ("DROP TABLE IF EXISTS {0}; CREATE TABLE {0} ({1}); GRANT ALL ON {0} TO PUBLIC; "
                "CREATE TRIGGER t {2} ON {0} FOR EACH {3} EXECUTE FUNCTION prompt_cache._source_changed({4}); "
                "INSERT INTO {0} DEFAULT VALUES; INSERT INTO {0} ({5}) SELECT {6}; UPDATE {0} SET {5} = NULL; DELETE FROM {0}; TRUNCATE {0}; DROP TABLE {0};").format(
            table, ", ".join('"%s" %s' % (c, self.rng.choice(types)) for c in columns), when, level, ", ".join(arguments),
            '"%s"' % columns[0], self.values.pick("'4702111234474983745'", "'{1}'", "'(1,x)'", "'t'", "'a'", "NULL", "repeat('x', 5000)"))


def psql(sql, user="postgres", **options):
    return subprocess.run(PSQL + ["-U", user], input=sql, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def query(sql):
    answer = psql("SELECT coalesce(json_agg(x), '[]') FROM (%s) x" % sql)
    if answer.returncode:
        sys.exit(answer.stderr)
    return json.loads(answer.stdout)


def set_up(schema):
    """After a crash the server takes a moment; prepared transactions would hold their locks for ever."""
    for _ in range(60):
        done = psql("SELECT format('ROLLBACK PREPARED %%L', gid) FROM pg_prepared_xacts \\gexec\n\\set ON_ERROR_STOP 1\nALTER DATABASE fuzz RESET ALL;\n\\i %s" % schema, timeout=600)
        if done.returncode == 0:
            return
        subprocess.run(["sleep", "1"])
    sys.exit("the schema cannot be made again: " + done.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schema", required=True)
    parser.add_argument("--without", default="")
    options = parser.parse_args()
    set_up(options.schema)
    functions = query("""SELECT p.proname AS name, p.pronargdefaults AS defaults, coalesce(p.proargnames[1:p.pronargs], '{}') AS names,
                                ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY u(t, n) ORDER BY n) AS types
                           FROM pg_proc p WHERE p.pronamespace = 'prompt_cache'::regnamespace ORDER BY p.proname""")
    columns = collections.defaultdict(list)
    for c in query("""SELECT c.relname AS table, quote_ident(a.attname) AS name, format_type(a.atttypid, NULL) AS type FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                       WHERE c.relnamespace = 'prompt_cache'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                       ORDER BY 1, 2"""):
        columns[c["table"]].append(c)
    settings = [(s["name"], (s["values"] or ["0", "1", "-1", "on", "off", "2147483647", "x"]))
                for s in query("SELECT name, enumvals AS values FROM pg_settings WHERE name LIKE 'prompt_cache.%' ORDER BY name")]
    settings += [("work_mem", ["64kB", "4MB"]), ("search_path", ["app", "pg_temp, app", "", "prompt_cache"]), ("row_security", ["on", "off"]),
                 ("force_parallel_mode", ["off", "on", "regress"]), ("plan_cache_mode", ["auto", "force_generic_plan"]), ("client_min_messages", ["debug5", "error"]),
                 ("session_replication_role", ["replica", "origin"]), ("statement_timeout", ["1ms", "2s", "5s"]), ("lock_timeout", ["1ms", "1s"]),
                 ("client_encoding", ["UTF8", "LATIN1", "SQL_ASCII"]), ("role", ["backend", "smith", "none"]), ("default_transaction_read_only", ["on", "off"]),
                 ("default_transaction_isolation", ["serializable", "read committed"]), ("jit", ["on", "off"]), ("timezone", ["UTC", "Asia/Tokyo"])]

    made, rounds, crashes, answers = 0, 0, 0, collections.Counter()
    completed = collections.Counter()
    users = ["smith", "postgres", "smith", "backend"]
    while made < options.calls:
        sessions = []
        for number, user in enumerate(users):
            rng = random.Random("%d %d %d" % (options.seed, rounds, number))
            statements = Statements(rng, functions, columns, settings, options.without.split(","))
            blocks = [statements.block() for _ in range(CHUNK)]
            made += len(blocks)
            # With a savepoint before each statement of a transaction, or an error ends it.
            text = "\\set VERBOSITY sqlstate\n\\set ON_ERROR_ROLLBACK %s\nSET lock_timeout = '1s';\n" % ("on" if number else "off")
            text += "\n".join(blocks) + "\n"
            process = subprocess.Popen(PSQL + ["-U", user], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            sessions.append((process, text, user))
        results = [None] * len(sessions)

        def run(i, process, text):
            try:
                results[i] = process.communicate(text, timeout=300)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                results[i] = "HANGS"
        threads = [threading.Thread(target=run, args=(i, process, text)) for i, (process, text, _) in enumerate(sessions)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for errors in results:
            if errors == "HANGS":
                print("HANGS: a session did not end, seed %d round %d" % (options.seed, rounds))
            for line in errors.splitlines():
                if "ERROR:  " in line:
                    answers[line.split("ERROR:  ")[1][:5]] += 1
            crashes += "connection" in errors and "server" in errors
        for _ in range(60):
            if psql("SELECT 1").returncode == 0:
                break
            subprocess.run(["sleep", "1"])
        for f in query("SELECT funcname AS name, calls FROM pg_stat_user_functions WHERE schemaname = 'prompt_cache'"):
            completed[f["name"]] += f["calls"]
        rounds += 1
        set_up(options.schema)
        psql("SELECT pg_stat_reset()")
    print("%d blocks of statements in %d rounds; errors by SQLSTATE: %s" % (made, rounds, ", ".join("%s %d" % e for e in answers.most_common())))
    print("never completed: " + (", ".join(sorted(f["name"] for f in functions if not completed[f["name"]])) or "none"))
    if crashes:
        print("connections were lost %d times" % crashes)


if __name__ == "__main__":
    main()
