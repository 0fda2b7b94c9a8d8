-- The wiring follows the tables through renames and changed columns, and the transaction through savepoints.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA wiring;
SET search_path = wiring;
\set VERBOSITY terse

CREATE TABLE tenants (id text PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id text PRIMARY KEY, tenant_id text, system_prompt text, name text);
INSERT INTO tenants VALUES ('acme', 'T1'), ('ACME', 'T2');
INSERT INTO users VALUES ('bob', 'acme', 'b', 'n'), ('Bob', 'ACME', 'B', 'N');
CREATE FUNCTION look(key text) RETURNS TABLE (source text, prompt text, exact boolean) LANGUAGE sql STABLE AS $$
    SELECT g.source, replace(regexp_replace(g.prompt, '--- [A-Za-z ]+ ---', '', 'g'), E'\n', ' '), g.prompt IS NOT DISTINCT FROM prompt_cache.build_key(key)
      FROM prompt_cache.get_or_build_key(key) g
$$;
CREATE VIEW state AS SELECT sound, problem FROM prompt_cache.attachments;

-- attach() in a subtransaction: seen, undone, seen again, in READ COMMITTED and REPEATABLE READ.
SELECT prompt_cache.attach();
SELECT * FROM look('bob');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM look('bob');
SAVEPOINT s;
SELECT prompt_cache.attach(user_prompt => 'name');
SELECT * FROM look('bob');
ROLLBACK TO s;
SELECT * FROM look('bob');
SELECT prompt_cache.detach();
SELECT * FROM look('bob');
ROLLBACK TO s;
SELECT * FROM look('bob');
COMMIT;
BEGIN;
SAVEPOINT s;
SELECT prompt_cache.attach(user_prompt => 'name', tenants => NULL);
SELECT * FROM look('bob');
ROLLBACK TO s;
SELECT * FROM look('bob');
SELECT prompt_cache.attach(user_prompt => 'name');
COMMIT;
SELECT * FROM look('bob');
SELECT source FROM look('bob');

-- Other tables take the names of the attached ones; the attachment stays with its own.
ALTER SCHEMA wiring RENAME TO wiring_before;
CREATE SCHEMA wiring;
CREATE TABLE tenants (id text PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id text PRIMARY KEY, tenant_id text, system_prompt text, name text);
INSERT INTO users VALUES ('bob', 'acme', 'stranger', 'stranger');
UPDATE wiring_before.users SET name = 'renamed schema' WHERE user_id = 'bob';
SELECT prompt, exact FROM wiring_before.look('bob');
UPDATE users SET name = 'stranger again';
SELECT * FROM wiring_before.look('bob');
DROP SCHEMA wiring CASCADE;
ALTER SCHEMA wiring_before RENAME TO wiring;
ALTER TABLE users RENAME TO people;
CREATE TABLE users (LIKE people INCLUDING ALL);
INSERT INTO users VALUES ('bob', 'acme', 'stranger', 'stranger');
UPDATE people SET name = 'renamed table' WHERE user_id = 'bob';
SELECT prompt, exact FROM look('bob');
ALTER TABLE people SET SCHEMA public;
UPDATE public.people SET name = 'other schema' WHERE user_id = 'bob';
SELECT prompt, exact FROM look('bob');
ALTER TABLE public.people SET SCHEMA wiring;
DROP TABLE users;
ALTER TABLE people RENAME TO users;
SELECT prompt_cache.attach();
SELECT prompt, exact FROM look('bob');

-- What attach() would refuse is refused when it comes later: nothing old is served, the error says what is wrong.
CREATE FUNCTION after(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said  text;
    found record;
BEGIN
    PERFORM prompt_cache.attach();
    EXECUTE change;
    BEGIN
        SELECT CASE WHEN l.exact THEN l.prompt ELSE 'WRONG' END INTO said FROM look('bob') l;
    EXCEPTION WHEN object_not_in_prerequisite_state THEN
        said := SQLSTATE;
    END;
    SELECT * INTO found FROM state;
    said := concat_ws(' | ', said, coalesce(found.problem, CASE WHEN found.sound THEN 'sound' ELSE 'unsound' END), prompt_cache.health()->>'status');
    RAISE EXCEPTION 'undone' USING ERRCODE = 'PC001';
EXCEPTION WHEN SQLSTATE 'PC001' THEN
    RETURN said;
END
$$;
CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE plan AS ENUM ('b', 'B', 'acme', 'ACME');
SELECT after('SELECT 1');
SELECT after('DELETE FROM users WHERE user_id = ''Bob''; ALTER TABLE users ALTER user_id TYPE text COLLATE anycase');
SELECT after('DELETE FROM tenants WHERE id = ''ACME''; ALTER TABLE tenants ALTER id TYPE text COLLATE anycase');
SELECT after('ALTER TABLE users ALTER system_prompt TYPE plan USING system_prompt::plan');
SELECT after('ALTER TABLE users ALTER system_prompt TYPE date USING ''2026-01-02''');
SELECT after('ALTER TABLE tenants ALTER system_prompt TYPE int USING 1');
SELECT after('ALTER TABLE users ALTER tenant_id TYPE plan USING tenant_id::plan');
SELECT after('ALTER TABLE users ALTER user_id TYPE bytea USING user_id::bytea');
SELECT after('ALTER TABLE users DROP CONSTRAINT users_pkey; INSERT INTO users VALUES (''bob'', ''acme'', ''twice'')');
SELECT after('ALTER TABLE users RENAME tenant_id TO t');
SELECT after('ALTER TABLE tenants RENAME id TO t');
SELECT after('ALTER TABLE tenants DROP system_prompt');
-- What is not wrong stays right.
SELECT after('ALTER TABLE users ALTER system_prompt TYPE varchar(10); UPDATE users SET system_prompt = ''b2''');
SELECT after('ALTER TABLE users DROP system_prompt; ALTER TABLE users ADD system_prompt text GENERATED ALWAYS AS (''g '' || name) STORED; UPDATE users SET name = ''m''');
SELECT after('CREATE TABLE child () INHERITS (users); INSERT INTO child VALUES (''bob'', NULL, ''child'', NULL)');
SELECT after('CREATE DOMAIN short AS text; ALTER TABLE users ALTER system_prompt TYPE short');
SELECT after('ALTER TABLE users SET UNLOGGED');
SELECT after('CREATE RULE quiet AS ON UPDATE TO tenants DO INSTEAD UPDATE users SET name = ''rule''; UPDATE tenants SET system_prompt = ''x''');
SELECT * FROM look('bob');

-- An unlogged source lives in memory only.
ALTER TABLE users SET UNLOGGED;
SELECT prompt_cache.prompt_key('bob') IS NOT NULL AS found, prompt_cache.flush() AS written;
DROP SCHEMA wiring CASCADE;
