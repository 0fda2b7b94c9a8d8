-- Unusual shapes: one table as users and tenants, long keys, names that are taken; large and late writes; parallel plans.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA shapes;
SET search_path = shapes;
\set VERBOSITY terse

CREATE FUNCTION look(key text) RETURNS TABLE (source text, prompt text, exact boolean) LANGUAGE sql STABLE AS $$
    SELECT g.source, left(replace(regexp_replace(g.prompt, '--- [A-Za-z ]+ ---', '', 'g'), E'\n', ' '), 40), g.prompt IS NOT DISTINCT FROM prompt_cache.build_key(key)
      FROM prompt_cache.get_or_build_key(key) g
$$;

-- A table that is both: a row is a user and the "tenant" of others.
CREATE TABLE people (id bigint PRIMARY KEY, boss bigint, system_prompt text);
INSERT INTO people VALUES (1, NULL, 'one'), (2, 1, 'two'), (3, 3, 'self'), (4, 2, 'four');
SELECT prompt_cache.attach('people', 'people', user_tenant => 'boss');
SELECT id, l.* FROM people, look(id::text) l ORDER BY id;
UPDATE people SET system_prompt = 'uno' WHERE id = 1;
UPDATE people SET system_prompt = 'selbst' WHERE id = 3;
SELECT id, l.prompt, l.exact FROM people, look(id::text) l ORDER BY id;
UPDATE people SET id = 20 WHERE id = 2;
SELECT id, l.prompt, l.exact FROM generate_series(1, 20) id, look(id::text) l WHERE l.prompt IS NOT NULL ORDER BY id;
SELECT source, count(*) FROM people, look(id::text) GROUP BY source;
SELECT prompt_cache.detach();
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'people'::regclass;

-- A trigger of that name is there already: nothing is attached, nothing of it is lost.
CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER prompt_cache_tenant_changed AFTER INSERT ON people FOR EACH ROW EXECUTE FUNCTION theirs();
SELECT prompt_cache.attach('people', 'people', user_tenant => 'boss');
SELECT tgname, tgfoid::regproc FROM pg_trigger WHERE tgrelid = 'people'::regclass;
SELECT count(*) FROM prompt_cache.attachments;
DROP TABLE people;

-- Text keys: long ones, references longer than any entry's key, numbers.
CREATE TABLE tenants (id text PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id text PRIMARY KEY, tenant_id text, system_prompt text);
INSERT INTO tenants SELECT k, 'T' || length(k) FROM unnest(ARRAY['x', repeat('t', 1023), repeat('t', 1024), repeat('t', 1025), repeat('t', 2000)]) k;
INSERT INTO users SELECT repeat('u', n), repeat('t', n), 'U' || n FROM unnest(ARRAY[1, 1023, 1024, 1025, 2000]) n;
INSERT INTO users VALUES ('42', repeat('t', 2000), 'forty-two'), ('-7', 'x', 'minus'), ('042', 'x', 'octal');
SELECT prompt_cache.attach();
SELECT length(u.user_id), l.* FROM users u, look(u.user_id) l ORDER BY 1, u.user_id;
SELECT length(u.user_id), l.prompt, l.exact FROM users u, look(u.user_id) l ORDER BY 1, u.user_id;
UPDATE tenants SET system_prompt = system_prompt || '!';
UPDATE users SET system_prompt = system_prompt || '!';
SELECT bool_and(l.exact AND l.prompt LIKE '%!') AS exact FROM users u, look(u.user_id) l WHERE length(u.tenant_id) > 1;
SELECT prompt_cache.flush() > 0 AS flushed;
SELECT bool_and(l.exact) AS exact FROM users u, look(u.user_id) l;
SELECT right(prompt_cache.prompt(42), 10) AS by_number, right(prompt_cache.prompt(-7), 6) AS by_number, prompt_cache.prompt(43) IS NULL AS none;
SELECT prompt_cache.detach();
DROP TABLE users, tenants;

-- More changed rows than a transaction keeps names for; COPY FREEZE after TRUNCATE.
CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);
CREATE TABLE messages (id serial PRIMARY KEY, user_id bigint, body text);
INSERT INTO users SELECT u, NULL, 'u' || u FROM generate_series(1, 6000) u;
SELECT prompt_cache.attach();
SELECT count(prompt_cache.prompt(user_id)) FROM users WHERE user_id % 10 = 1;
BEGIN;
UPDATE users SET system_prompt = 'many' WHERE user_id <= 5000;
SELECT count(*) FROM users u, look(u.user_id::text) l WHERE u.user_id % 100 = 1 AND NOT l.exact;
COMMIT;
SELECT count(*) FILTER (WHERE l.exact) AS exact, count(*) FILTER (WHERE l.source = 'memory') AS memory FROM users u, look(u.user_id::text) l WHERE u.user_id % 100 = 1;
SELECT count(*) FILTER (WHERE l.exact) AS exact, count(*) FILTER (WHERE l.source = 'memory') AS memory FROM users u, look(u.user_id::text) l WHERE u.user_id % 100 = 1;
BEGIN;
TRUNCATE users;
COPY users FROM STDIN WITH (FREEZE);
1	\N	frozen
2	\N	frozen
\.
SELECT prompt, exact FROM look('1');
COMMIT;
SELECT id, l.* FROM generate_series(1, 3) id, look(id::text) l;

-- A deferred trigger reads and writes at commit; a cursor WITH HOLD is read to its end there.
CREATE TABLE seen (n serial, prompt text, exact boolean);
CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen (prompt, exact) SELECT l.prompt, l.exact FROM look(NEW.user_id::text) l;
    UPDATE users SET system_prompt = 'at commit' WHERE user_id = NEW.user_id;
    INSERT INTO seen (prompt, exact) SELECT l.prompt, l.exact FROM look(NEW.user_id::text) l;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit();
BEGIN;
INSERT INTO messages (user_id, body) VALUES (1, 'x');
DECLARE held CURSOR WITH HOLD FOR SELECT user_id, prompt_cache.prompt(user_id) = prompt_cache.build(user_id) AS exact FROM users ORDER BY user_id;
UPDATE users SET system_prompt = 'before commit' WHERE user_id = 1;
SELECT prompt, exact FROM look('1');
COMMIT;
FETCH ALL FROM held;
CLOSE held;
SELECT prompt, exact FROM seen ORDER BY n;
SELECT prompt, exact FROM look('1');

-- Parallel plans and prepared statements with generic plans give what the leader sees.
INSERT INTO users SELECT u, NULL, 'u' || u FROM generate_series(3, 2000) u;
ANALYZE users;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
BEGIN;
UPDATE users SET system_prompt = 'own' WHERE user_id = 5;
SELECT count(*) FILTER (WHERE prompt_cache.prompt(user_id) = E'--- User Preferences ---\n' || system_prompt) AS exact FROM users;
COMMIT;
SET plan_cache_mode = force_generic_plan;
PREPARE read(bigint) AS SELECT prompt_cache.prompt($1);
EXECUTE read(5);
UPDATE users SET system_prompt = 'changed' WHERE user_id = 5;
EXECUTE read(5);
DROP SCHEMA shapes CASCADE;
