-- A builder runs with the rights of its owner. Who else may create objects where it looks names up must be able to act as its owner.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS prompt_cache CASCADE;
CREATE EXTENSION prompt_cache;
CREATE ROLE regress_pc_alice;
CREATE ROLE regress_pc_mallory;
CREATE ROLE regress_pc_deputy IN ROLE regress_pc_alice;
CREATE ROLE regress_pc_admin SUPERUSER;
CREATE SCHEMA trust AUTHORIZATION regress_pc_alice;
GRANT USAGE ON SCHEMA trust, prompt_cache TO regress_pc_mallory, regress_pc_alice;
GRANT EXECUTE ON FUNCTION prompt_cache.create_namespace, prompt_cache.alter_namespace, prompt_cache.watch TO regress_pc_alice;
SET ROLE regress_pc_alice;
CREATE TABLE trust.items (key text PRIMARY KEY, value varchar);
INSERT INTO trust.items VALUES ('k', 'v'), ('l', 'w');
CREATE FUNCTION trust.item(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT upper(value) FROM trust.items i WHERE i.key = $1); END $$;

\echo a function of the schema fits the call of upper() better: refused at first, and later
RESET ROLE;
GRANT CREATE ON SCHEMA trust TO regress_pc_mallory;
SET ROLE regress_pc_mallory;
CREATE FUNCTION trust.upper(varchar) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'code of mallory, run as ' || current_user $$;
SET ROLE regress_pc_alice;
\set VERBOSITY sqlstate
SELECT prompt_cache.create_namespace('items', 'trust.item(text)');
\set VERBOSITY default
SELECT prompt_cache.create_namespace('items', 'trust.item(text)');
REVOKE CREATE ON SCHEMA trust FROM regress_pc_mallory;
DROP FUNCTION trust.upper(varchar);
SELECT prompt_cache.create_namespace('items', 'trust.item(text)'), prompt_cache.watch('trust.items', 'items', 'key');
RESET ROLE;
SELECT prompt_cache.fetch('items', 'k');
-- In another session, so that the wiring that is remembered is not the own one.
\c -
SET client_min_messages = warning;
SELECT source, value FROM prompt_cache.fetch_many('items', '{k}');
SET ROLE regress_pc_alice;
GRANT CREATE ON SCHEMA trust TO regress_pc_mallory, PUBLIC;
SET ROLE regress_pc_mallory;
CREATE FUNCTION trust.upper(varchar) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'code of mallory, run as ' || current_user $$;
\c -
SET client_min_messages = warning;
SELECT prompt_cache.fetch('items', 'k');
SELECT prompt_cache.fetch('items', 'l');
SELECT prompt_cache.rebuild('items', 'l');
SELECT sound, problem FROM prompt_cache.namespaces;
SELECT prompt_cache.health() ->> 'status' AS status, r FROM jsonb_array_elements_text(prompt_cache.health() -> 'reasons') r;
SET ROLE regress_pc_alice;
REVOKE CREATE ON SCHEMA trust FROM regress_pc_mallory, PUBLIC;
DROP FUNCTION trust.upper(varchar);
\c -
SET client_min_messages = warning;
SELECT prompt_cache.fetch('items', 'l');

\echo whoever can act as the owner may create; a change of roles alone, of which no session is told, is seen by the build
GRANT CREATE ON SCHEMA trust TO regress_pc_deputy, regress_pc_admin;
SELECT source, value FROM prompt_cache.fetch_many('items', '{k,k}');
REVOKE regress_pc_alice FROM regress_pc_deputy;
SELECT prompt_cache.fetch('items', 'k');
SELECT prompt_cache.rebuild('items', 'k');
ALTER ROLE regress_pc_admin NOSUPERUSER;
SELECT prompt_cache.rebuild('items', 'k');
REVOKE CREATE ON SCHEMA trust FROM regress_pc_deputy, regress_pc_admin;
SELECT prompt_cache.rebuild('items', 'k');

\echo the owner of the schema may create
CREATE SCHEMA foreign_schema AUTHORIZATION regress_pc_mallory;
GRANT CREATE, USAGE ON SCHEMA foreign_schema TO regress_pc_alice;
SET ROLE regress_pc_alice;
CREATE FUNCTION foreign_schema.item(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT value FROM trust.items i WHERE i.key = $1 $$;
SELECT prompt_cache.alter_namespace('items', 'foreign_schema.item(text)');
ALTER FUNCTION foreign_schema.item(text) SET search_path = pg_catalog, pg_temp;
SELECT prompt_cache.alter_namespace('items', 'foreign_schema.item(text)');
RESET ROLE;
SELECT prompt_cache.fetch('items', 'k');
ALTER FUNCTION foreign_schema.item(text) RESET ALL;
SELECT prompt_cache.fetch('items', 'k');
ALTER FUNCTION foreign_schema.item(text) OWNER TO regress_pc_mallory;
SELECT problem FROM prompt_cache.namespaces;
ALTER FUNCTION foreign_schema.item(text) OWNER TO regress_pc_alice;
ALTER SCHEMA foreign_schema OWNER TO regress_pc_alice;
REVOKE ALL ON SCHEMA foreign_schema FROM regress_pc_mallory;
SELECT prompt_cache.fetch('items', 'k');
ALTER SCHEMA foreign_schema OWNER TO regress_pc_mallory;
SELECT prompt_cache.fetch('items', 'k');

\echo the owner of the database owns what belongs to pg_database_owner: a superuser here
ALTER SCHEMA foreign_schema OWNER TO pg_database_owner;
SELECT prompt_cache.fetch('items', 'k');
BEGIN;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO regress_pc_mallory', current_database()); END $$;
SELECT prompt_cache.rebuild('items', 'k');
ROLLBACK;

\echo a temporary schema becomes that of another session
CREATE FUNCTION pg_temp.item(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT key $$;
SELECT prompt_cache.create_namespace('temporary', 'pg_temp.item(text)');

SELECT prompt_cache.drop_namespace('items');
DROP OWNED BY regress_pc_alice, regress_pc_mallory CASCADE;
DROP SCHEMA IF EXISTS foreign_schema CASCADE;
DROP ROLE regress_pc_deputy, regress_pc_mallory, regress_pc_admin, regress_pc_alice;
