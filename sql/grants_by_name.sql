-- allow() and deny() mean a role, GRANT and REVOKE take its name; and a role that is gone reads nothing, nor does whoever gets its oid.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS prompt_cache CASCADE;
CREATE EXTENSION prompt_cache;
CREATE ROLE regress_pc_alice;
CREATE ROLE regress_pc_bob;
CREATE TABLE secrets (key text PRIMARY KEY, value text);
INSERT INTO secrets VALUES ('k', 'v');
CREATE FUNCTION secret(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT value FROM secrets s WHERE s.key = $1 $$;
CREATE FUNCTION secret2(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT value FROM secrets s WHERE s.key = $1 $$;
SELECT count(prompt_cache.create_namespace(n, f)) FROM (VALUES ('one', 'secret(text)'::regprocedure), ('two', 'secret2(text)')) AS x(n, f);
SELECT count(prompt_cache.watch('secrets', n, 'key')) FROM unnest('{one,two}'::text[]) n;
CREATE FUNCTION may(role text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(p.proname, ', ' ORDER BY p.proname) FROM pg_proc p, aclexplode(p.proacl) a
     WHERE p.pronamespace = 'prompt_cache'::regnamespace AND a.grantee = role::regrole
$$;

\echo the roles exchange their names when the first GRANT or REVOKE begins
CREATE FUNCTION exchange_names() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('grants.exchanged', true) = 'no' THEN
        PERFORM set_config('grants.exchanged', 'yes', true);
        ALTER ROLE regress_pc_alice RENAME TO regress_pc_other;
        ALTER ROLE regress_pc_bob RENAME TO regress_pc_alice;
        ALTER ROLE regress_pc_other RENAME TO regress_pc_bob;
    END IF;
END
$$;
CREATE EVENT TRIGGER exchange_names ON ddl_command_start WHEN TAG IN ('GRANT', 'REVOKE') EXECUTE FUNCTION exchange_names();
BEGIN;
SET LOCAL grants.exchanged = 'no';
SELECT prompt_cache.allow('regress_pc_alice', 'one');
ROLLBACK;
SELECT may('regress_pc_alice'), may('regress_pc_bob');
SELECT prompt_cache.allow('regress_pc_alice'), prompt_cache.allow('regress_pc_bob');
BEGIN;
SET LOCAL grants.exchanged = 'no';
SELECT prompt_cache.deny('regress_pc_alice');
ROLLBACK;
DROP EVENT TRIGGER exchange_names;
SELECT prompt_cache.deny('regress_pc_bob');
SELECT may('regress_pc_alice') = 'fetch, fetch_many, get, get_or_build, get_or_build_key, get_with_tags, invalidation_channel, prompt, prompt_key' AS all_of_them,
       may('regress_pc_bob');

\echo no role
SELECT prompt_cache.allow(NULL);
SELECT prompt_cache.deny(NULL);
SELECT prompt_cache.allow('4294967295'::regrole);
SELECT prompt_cache.allow('-'::regrole);
SELECT prompt_cache.deny('4294967295'::regrole);
SELECT prompt_cache.allow('no such role');

\echo what another role has granted is not taken back in silence
SELECT prompt_cache.deny('regress_pc_alice'), prompt_cache.allow('regress_pc_alice', 'one');
GRANT EXECUTE ON FUNCTION prompt_cache.fetch TO regress_pc_alice WITH GRANT OPTION;
GRANT USAGE ON SCHEMA prompt_cache TO regress_pc_alice WITH GRANT OPTION;
SET ROLE regress_pc_alice;
GRANT EXECUTE ON FUNCTION prompt_cache.fetch TO regress_pc_bob;
RESET ROLE;
SELECT prompt_cache.deny('regress_pc_bob');
REVOKE ALL ON FUNCTION prompt_cache.fetch FROM regress_pc_alice CASCADE;
REVOKE ALL ON SCHEMA prompt_cache FROM regress_pc_alice CASCADE;
SELECT prompt_cache.deny('regress_pc_alice');
SELECT count(*) AS readers FROM prompt_cache.reader;

\echo a role is dropped, and its oid becomes that of another
SELECT prompt_cache.allow('regress_pc_alice', 'one'), 'regress_pc_alice'::regrole::oid AS alice \gset
SET ROLE regress_pc_alice;
SELECT prompt_cache.fetch('one', 'k');
RESET ROLE;
DROP ROLE regress_pc_alice;
DROP OWNED BY regress_pc_alice;
DROP ROLE regress_pc_alice;
SELECT count(*) AS left_behind FROM prompt_cache.reader;
SELECT cardinality(readers) AS readers FROM prompt_cache._namespace('one'::text);
BEGIN;
SET LOCAL allow_system_table_mods = on;
UPDATE pg_authid SET oid = :alice WHERE rolname = 'regress_pc_bob';
SELECT prompt_cache.allow('regress_pc_bob', 'two');
SET LOCAL ROLE regress_pc_bob;
SELECT prompt_cache.fetch('two', 'k');
SELECT prompt_cache.fetch('one', 'k');
ROLLBACK;

\echo who is gone is deleted by allow(), deny() and housekeeping
SELECT count(*) AS left_behind FROM prompt_cache.reader;
BEGIN;
SELECT prompt_cache.allow('regress_pc_bob', 'prompt');
SELECT count(*) AS left_behind FROM prompt_cache.reader;
ROLLBACK;
BEGIN;
SELECT prompt_cache.deny((:'alice')::regrole);
SELECT count(*) AS left_behind FROM prompt_cache.reader;
ROLLBACK;
SELECT prompt_cache._expire_rows();
SELECT count(*) AS left_behind FROM prompt_cache.reader;

SELECT count(prompt_cache.drop_namespace(n)) FROM unnest('{one,two}'::text[]) n;
DROP TABLE secrets;
DROP FUNCTION secret, secret2, may, exchange_names;
DROP ROLE regress_pc_bob;
