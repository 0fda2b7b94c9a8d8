-- DDL on the sources: what leaves everything in memory, what empties it, what is repaired, what is refused.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA ddl;
SET search_path = ddl;

CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text, last_login timestamptz);
INSERT INTO tenants VALUES (1, 'T1'), (2, 'T2');
INSERT INTO users SELECT u, 1 + u % 2, 'u' || u FROM generate_series(1, 50) u;
CREATE TABLE messages (id serial PRIMARY KEY, body text);
SELECT prompt_cache.attach();

CREATE FUNCTION look(id bigint) RETURNS TABLE (source text, ends text, exact boolean) LANGUAGE sql STABLE AS $$
    SELECT g.source, substring(g.prompt FROM '[^\n]*$'), g.prompt IS NOT DISTINCT FROM prompt_cache.build(id)
      FROM prompt_cache.get_or_build(id) g
$$;
-- Which tiers answered, and whether all were exact.
CREATE FUNCTION look_all() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(x.t, ', ') FROM (SELECT format('%s %s%s', l.source, count(*), CASE WHEN bool_and(l.exact) THEN '' ELSE ' WRONG' END) t
                                       FROM generate_series(1, 50) u, look(u) l GROUP BY l.source ORDER BY l.source) x
$$;
CREATE VIEW health AS SELECT h->>'status' AS status, h->'reasons' AS reasons FROM prompt_cache.health() h;
SELECT look_all() AS first, look_all() AS second;

-- Nothing of this is a change.
VACUUM users;
VACUUM (FULL, ANALYZE) messages;
ANALYZE;
VACUUM ANALYZE tenants;
CREATE TEMP TABLE scratch (id serial PRIMARY KEY, body text);
CREATE TABLE other (id serial PRIMARY KEY, body text);
ALTER TABLE other ADD extra text;
CREATE FUNCTION unrelated() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE unrelated_type AS ENUM ('a');
TRUNCATE other;
DROP TABLE other, scratch;
SELECT look_all();

-- Rewrites, TRUNCATE, other definitions: everything is read anew, once.
VACUUM FULL users;
ALTER TABLE users ALTER system_prompt TYPE varchar(100) USING upper(system_prompt);
SELECT look_all() AS first, look_all() AS second;
ALTER TABLE users ADD COLUMN note text DEFAULT 'x';
ALTER TABLE tenants ALTER id TYPE int;
SELECT look_all() AS first, look_all() AS second;
BEGIN;
TRUNCATE users;
SELECT * FROM look(42);
INSERT INTO users VALUES (42, 1, 'after truncate');
SELECT * FROM look(42);
ROLLBACK;
SELECT look_all();
BEGIN;
TRUNCATE tenants;
COMMIT;
SELECT look_all() AS first, look_all() AS second, prompt_cache.prompt(42);
INSERT INTO tenants VALUES (1, 'T1'), (2, 'T2');
SELECT look_all() LIKE 'built %, memory %' AS first, look_all() AS second;

-- Own uncommitted DDL that hides an UPDATE from every trigger.
BEGIN;
ALTER TABLE users DISABLE TRIGGER ALL;
UPDATE users SET system_prompt = 'hidden' WHERE user_id = 42;
SELECT * FROM look(42);
ALTER TABLE users ENABLE ALWAYS TRIGGER prompt_cache_user_changed;
ALTER TABLE users ENABLE ALWAYS TRIGGER prompt_cache_user_truncated;
SELECT * FROM look(42);
ANALYZE users;
COMMIT;
SELECT look_all() AS first, look_all() AS second;
SELECT ends, exact FROM look(42);

-- Triggers that are off: nothing is stored, health is critical and says what to do; flush() repairs ENABLE.
ALTER TABLE users DISABLE TRIGGER ALL;
SELECT look_all() AS first, look_all() AS second;
SELECT * FROM health;
SELECT sound, problem FROM prompt_cache.attachments;
UPDATE users SET system_prompt = 'while off' WHERE user_id = 42;
SELECT * FROM look(42);
ALTER TABLE users ENABLE TRIGGER ALL;
SELECT look_all();
SELECT t->>'repair' AS repair FROM prompt_cache.health() h, jsonb_array_elements(h->'triggers') t ORDER BY 1;
SET client_min_messages = notice;
SELECT prompt_cache.flush();
SET client_min_messages = warning;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'users'::regclass ORDER BY 1;
SELECT * FROM health;
SELECT look_all() AS first, look_all() AS second;
SELECT ends, exact FROM look(42);
-- A trigger that is gone, or was made anew with a WHEN clause or other arguments.
DROP TRIGGER prompt_cache_tenant_changed ON tenants;
UPDATE tenants SET system_prompt = 'unseen';
SELECT look_all() AS first, look_all() AS second;
SELECT * FROM health;
CREATE TRIGGER prompt_cache_tenant_changed AFTER INSERT OR UPDATE OR DELETE ON tenants FOR EACH ROW
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION prompt_cache._source_changed('tenant', 'id', 'system_prompt');
ALTER TABLE tenants ENABLE ALWAYS TRIGGER prompt_cache_tenant_changed;
SELECT status FROM health;
SELECT prompt_cache.attach();
SELECT * FROM health;
SELECT look_all() AS first, look_all() AS second;

-- Columns and tables that go: a clear error with a hint, and attach() again.
ALTER TABLE users RENAME system_prompt TO instructions;
SELECT prompt_cache.prompt(42);
SELECT * FROM prompt_cache.get_or_build(42);
SELECT prompt_cache.build(42);
SELECT * FROM health;
SELECT sound, problem FROM prompt_cache.attachments;
UPDATE users SET instructions = 'renamed' WHERE user_id = 42;
SELECT prompt_cache.attach(user_prompt => 'instructions');
SELECT ends, exact FROM look(42);
ALTER TABLE users DROP instructions;
SELECT prompt_cache.prompt(42);
DROP TABLE tenants;
SELECT prompt_cache.prompt(42);
SELECT * FROM health;
DROP TABLE users;
SELECT prompt_cache.prompt(42);
SELECT prompt_cache.health()->>'status' AS status, prompt_cache.clear() >= 0 AS cleared;
\set VERBOSITY terse
SELECT prompt_cache.flush();
\set VERBOSITY default
SELECT prompt_cache.detach();
SELECT prompt_cache.prompt(42);

-- A plain DROP EXTENSION takes the triggers along, and empties a full cache at once; the next one starts afresh.
CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);
INSERT INTO users SELECT u, 1, 'again ' || u FROM generate_series(1, 50) u;
SELECT prompt_cache.attach();
SELECT look_all() AS first, look_all() AS second;
DROP VIEW health;
BEGIN;
DROP EXTENSION prompt_cache;
ROLLBACK;
SELECT look_all();
DROP EXTENSION prompt_cache;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'users'::regclass;
UPDATE users SET system_prompt = 'without' WHERE user_id = 42;
CREATE EXTENSION prompt_cache;
SELECT prompt_cache.attach();
SELECT * FROM look(42);
SELECT look_all();
SELECT look_all();
DROP SCHEMA ddl CASCADE;
