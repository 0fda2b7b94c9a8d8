-- Prompts that are SQL expressions over the row: when a change of the row matters, and what gets into the value.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA expressions;
SET search_path = expressions;
\set VERBOSITY terse
CREATE FUNCTION look(key text) RETURNS TABLE (source text, prompt text, exact boolean) LANGUAGE sql STABLE AS $$
    SELECT g.source, replace(regexp_replace(g.prompt, '--- [A-Za-z ]+ ---', '', 'g'), E'\n', ' '), g.prompt IS NOT DISTINCT FROM prompt_cache.build_key(key)
      FROM prompt_cache.get_or_build_key(key) g
$$;
-- How many marks since it was last asked? Committed in between, since marks are made at commit.
CREATE TABLE seen (invalidations bigint);
INSERT INTO seen VALUES (0);
CREATE FUNCTION marks() RETURNS bigint LANGUAGE sql AS $$
    WITH now AS (SELECT invalidations AS n FROM prompt_cache.stats WHERE namespace = 'prompt'), before AS (SELECT invalidations AS n FROM seen),
         kept AS (UPDATE seen SET invalidations = now.n FROM now)
    SELECT now.n - before.n FROM now, before
$$;
-- A reserved word for a name, text ids, the prompt deep in a json, a column that is written all the time.
CREATE TABLE "group" (id text PRIMARY KEY, "guideLines" text, deleted_at timestamptz);
CREATE TABLE "user" (id text PRIMARY KEY, name varchar(40), settings json, last_active_at bigint, "groupId" text);
INSERT INTO "group" VALUES ('staff', 'rules of staff'), ('guests', 'rules of guests');
INSERT INTO "user" VALUES ('ann', 'Ann', '{"ui": {"system": "be brief"}, "theme": "dark"}', 1, 'staff'), ('bob', 'Bob', '{"ui": {}}', 1, 'staff'), ('cid', 'Cid', NULL, 1, 'guests');
SELECT prompt_cache.attach('"user"', '"group"', user_tenant => 'groupId', user_prompt => $$settings->'ui'->>'system'$$, tenant_prompt => $$CASE WHEN deleted_at IS NULL THEN "guideLines" END$$);
SELECT user_prompt, tenant_prompt, sound, problem FROM prompt_cache.attachments;
SELECT id, l.* FROM "user", look(id) l ORDER BY id;
SELECT id, l.source, l.exact FROM "user", look(id) l ORDER BY id;

-- What the expression does not read, or reads and gives the same for, empties nothing.
SELECT marks() > 0 AS counted;
UPDATE "user" SET last_active_at = last_active_at + 1, name = name || '!';
UPDATE "user" SET settings = '{"ui": {"system": "be brief"}, "theme": "light"}' WHERE id = 'ann';
UPDATE "user" SET settings = '{"ui": {"lang": "de"}}' WHERE id = 'bob';
UPDATE "group" SET deleted_at = NULL, "guideLines" = "guideLines" || '' WHERE id = 'staff';
SELECT marks();
SELECT id, l.source, l.exact FROM "user", look(id) l ORDER BY id;
UPDATE "user" SET settings = '{"ui": {"system": "be kind"}}' WHERE id = 'ann';
SELECT marks();
SELECT id, l.* FROM "user", look(id) l ORDER BY id;
UPDATE "group" SET deleted_at = now() WHERE id = 'staff';
SELECT marks(), l.* FROM look('ann') l;
UPDATE "user" SET "groupId" = 'guests' WHERE id = 'ann';
UPDATE "user" SET settings = '{"ui": {"system": ""}}' WHERE id = 'bob';
SELECT marks(), l.* FROM look('ann') l;
SELECT prompt_cache.flush() > 0 AS flushed, prompt_cache.clear() > 0 AS cleared;
SELECT id, l.source, l.exact FROM "user", look(id) l ORDER BY id;
BEGIN;
UPDATE "user" SET settings = '{"ui": {"system": "draft"}}' WHERE id = 'cid';
SELECT * FROM look('cid');
ROLLBACK;
SELECT prompt, exact FROM look('cid');

-- An error in the expression is the reader's of that row, never the writer's.
SELECT prompt_cache.attach('"user"', NULL, user_prompt => $$((settings->>'n')::int)::text || name$$);
SELECT id, l.prompt, l.exact FROM "user", look(id) l ORDER BY id;
UPDATE "user" SET settings = '{"n": 7}' WHERE id = 'cid';
SELECT prompt, exact FROM look('cid');
UPDATE "user" SET settings = '{"n": "seven"}' WHERE id = 'cid';
SELECT prompt_cache.prompt_key('cid');
SELECT prompt, exact FROM look('ann');
UPDATE "user" SET settings = '{"n": 8}' WHERE id = 'cid';
SELECT prompt, exact FROM look('cid');

-- Settings, search_path and rights of whoever reads or writes do not get in.
ALTER TABLE "user" ADD seen_at timestamptz DEFAULT '2026-01-02 03:04:05+00', ADD price float8 DEFAULT 0.1;
SELECT prompt_cache.attach('"user"', NULL, user_prompt => $$concat_ws(' ', name, seen_at, price, to_char(price, 'FM90D0'))$$);
SELECT user_prompt FROM prompt_cache.attachments;
SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET extra_float_digits = -5; SET search_path = pg_catalog;
SELECT expressions.look('ann');
RESET TimeZone; RESET DateStyle; RESET extra_float_digits; SET search_path = expressions;
SELECT * FROM look('ann');
SELECT marks() > 0 AS counted;
UPDATE "user" SET seen_at = '2026-01-02 04:04:05+01';
UPDATE "user" SET price = 0.10;
SELECT marks();
UPDATE "user" SET seen_at = '2026-01-02 04:04:05+02' WHERE id = 'ann';
SELECT * FROM look('ann');

CREATE ROLE expression_writer;
GRANT USAGE ON SCHEMA expressions TO expression_writer;
GRANT SELECT, UPDATE ON "user" TO expression_writer;
CREATE FUNCTION secret(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN lower(t); END $$;
REVOKE ALL ON FUNCTION secret(text) FROM PUBLIC;
SELECT prompt_cache.attach('"user"', NULL, user_prompt => 'secret(name)');
SELECT prompt FROM look('ann');
SET ROLE expression_writer;
UPDATE "user" SET name = 'ANN' WHERE id = 'ann';
RESET ROLE;
SELECT * FROM look('ann');

-- Partitions, one with its columns in another order.
CREATE TABLE users (junk int, user_id bigint PRIMARY KEY, first text, last text, tenant_id bigint) PARTITION BY RANGE (user_id);
CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (0) TO (100);
CREATE TABLE users_high (last text, tenant_id bigint, gone int, user_id bigint NOT NULL, first text, junk int);
ALTER TABLE users_high DROP gone;
ALTER TABLE users ATTACH PARTITION users_high FOR VALUES FROM (100) TO (200);
INSERT INTO users (user_id, first, last) VALUES (1, 'Ann', 'Low'), (101, 'Bob', 'High');
SELECT prompt_cache.attach('users', NULL, user_prompt => $$first || ' ' || left(last, 3)$$);
SELECT user_id, l.* FROM users, look(user_id::text) l ORDER BY user_id;
SELECT marks() > 0 AS counted;
UPDATE users SET junk = 1, last = last || '!';
UPDATE users SET last = 'Higher' WHERE user_id = 101;
SELECT marks();
UPDATE users SET last = 'Love' WHERE user_id = 1;
SELECT marks(), l.* FROM look('1') l;
-- The wiring may be read in the leader of a parallel query, where there are no subtransactions.
SELECT prompt_cache.clear() > 0 AS cleared;
BEGIN;
SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0;
SELECT count(*) FILTER (WHERE prompt_cache.prompt(user_id) LIKE '%' || left(last, 3)) AS exact FROM users WHERE junk = 1;
COMMIT;
UPDATE users_high SET first = 'Bea' WHERE user_id = 101;
UPDATE users SET user_id = 102 WHERE user_id = 1;
SELECT id, l.prompt, l.exact FROM generate_series(1, 102) id, look(id::text) l WHERE id IN (1, 101, 102) ORDER BY id;
DROP SCHEMA expressions CASCADE;
DROP ROLE expression_writer;
