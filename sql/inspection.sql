-- What the views and health() show, and what every object of the extension must have.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA inspection;
SET search_path = inspection;

CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);
INSERT INTO tenants VALUES (1, 'T1');
INSERT INTO users SELECT u, 1, 'u' || u FROM generate_series(1, 10) u;

-- health(): its keys, before and after attach().
SELECT key, jsonb_typeof(value) FROM prompt_cache.health(), jsonb_each(health) ORDER BY key;
SELECT h->>'status' AS status, h->'reasons' AS reasons, h->>'role' AS role, h->>'preloaded' AS preloaded,
       h->>'version' = (SELECT extversion FROM pg_extension WHERE extname = 'prompt_cache') AS version, h->'triggers' AS triggers
  FROM prompt_cache.health() h;
SELECT count(*) FROM prompt_cache.attachments;
SELECT prompt_cache.attach();
SELECT h->>'status' AS status, h->'reasons' AS reasons, h->'triggers' AS triggers FROM prompt_cache.health() h;
SELECT * FROM prompt_cache.attachments;
SELECT key, value->>'state' AS state FROM prompt_cache.health(), jsonb_each(health->'tiers') ORDER BY key;

-- stats: one row, and the sums fit; what every kind of call adds.
SELECT column_name FROM information_schema.columns WHERE table_schema = 'prompt_cache' AND table_name = 'stats' ORDER BY ordinal_position;
CREATE TEMP TABLE before AS SELECT * FROM prompt_cache.stats;
CREATE PROCEDURE remember() LANGUAGE sql AS 'TRUNCATE before; INSERT INTO before SELECT * FROM prompt_cache.stats';
CREATE VIEW added AS
SELECT s.lookups - b.lookups AS lookups, s.hits_memory - b.hits_memory AS memory, s.hits_database - b.hits_database AS database,
       s.builds - b.builds AS builds, s.misses - b.misses AS misses, s.bypasses - b.bypasses AS bypasses,
       s.invalidations - b.invalidations AS marks, s.entries - b.entries AS entries, s.bytes > b.bytes AS more_bytes
  FROM prompt_cache.stats s, before b;
SELECT count(*), min(namespace) FROM prompt_cache.stats;
SELECT count(prompt_cache.prompt(user_id)) FROM users;
SELECT * FROM added;
CALL remember();
SELECT count(prompt_cache.prompt(user_id)) FROM users;
SELECT * FROM added;
-- build() and NULL are no lookups; an absence is one.
CALL remember();
SELECT prompt_cache.build(1) IS NULL, prompt_cache.prompt(NULL) IS NULL;
SELECT prompt_cache.prompt(99) IS NULL, prompt_cache.prompt(99) IS NULL;
SELECT * FROM added;
-- Bypasses: SERIALIZABLE; own change. Neither counts as a build.
CALL remember();
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT prompt_cache.prompt(1) IS NULL;
COMMIT;
BEGIN;
UPDATE users SET system_prompt = 'x' WHERE user_id = 1;
SELECT prompt_cache.prompt(1) IS NULL;
ROLLBACK;
SELECT * FROM added;
-- One mark for a changed row, whatever else the transaction does to it; none for a rollback, a read or a column that does not matter.
CALL remember();
BEGIN;
UPDATE users SET system_prompt = 'y' WHERE user_id = 1;
UPDATE users SET system_prompt = 'z' WHERE user_id = 1;
COMMIT;
UPDATE users SET system_prompt = system_prompt;
SELECT marks FROM added;
-- The table.
SELECT prompt_cache.flush();
CALL remember();
SET prompt_cache.memory = off;
SELECT source FROM prompt_cache.get_or_build(2);
RESET prompt_cache.memory;
SELECT lookups, memory, database, builds, misses FROM added;
SELECT lookups = hits_memory + misses + bypasses AS sum, misses >= hits_database + hits_redis AS part, hit_rate BETWEEN 0 AND 1 AS rate,
       abs(hit_rate - hits_memory::float8 / (lookups - bypasses)) < 1e-9 AS exact_rate, build_ms_avg > 0 AS time,
       hits_redis, stats_reset <= now() AS since FROM prompt_cache.stats;

-- entries: no values; keys, ages, whether they are valid.
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'prompt_cache' AND table_name = 'entries' ORDER BY ordinal_position;
SELECT namespace, layer, key, bytes > 0 AS bytes, created_at BETWEEN now() - interval '1 min' AND clock_timestamp() AS created,
       expires_at - created_at BETWEEN '45 min' AND '1 h' AS ttl, frequency >= 0 AS frequency, valid
  FROM prompt_cache.entries WHERE key IN ('', '1', '2', '99') ORDER BY layer, key;
UPDATE users SET system_prompt = 'new' WHERE user_id = 2;
SELECT key FROM prompt_cache.entries WHERE NOT valid ORDER BY key;
SELECT prompt_cache.clear() = 13 AS all_of_them;
SELECT count(*) FROM prompt_cache.entries;

-- Every object of the schema is the extension's, has a comment, and can be called from any driver.
SELECT d.classid::regclass AS catalog, d.objid FROM pg_depend d WHERE d.refobjid = 'prompt_cache'::regnamespace AND d.deptype = 'n'
   AND d.classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass) AND NOT EXISTS (SELECT FROM pg_depend e
       WHERE (e.classid, e.objid) = (d.classid, d.objid) AND e.deptype = 'e');
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'prompt_cache'::regnamespace AND c.relkind IN ('r', 'v')
   AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'prompt_cache'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT proname FROM pg_proc WHERE pronamespace = 'prompt_cache'::regnamespace GROUP BY proname HAVING count(*) > 1;
SELECT proname FROM pg_proc WHERE pronamespace = 'prompt_cache'::regnamespace AND proname !~ '^_' AND prorettype = 'void'::regtype;
SELECT proname FROM pg_proc WHERE pronamespace = 'prompt_cache'::regnamespace AND proname !~ '^_' AND pronargs > 0 AND '' = ANY (coalesce(proargnames, '{""}'));
SELECT p.proname, p.provolatile, p.proparallel, p.proisstrict, p.prosecdef, pg_get_function_result(p.oid) AS result
  FROM pg_proc p WHERE p.pronamespace = 'prompt_cache'::regnamespace AND p.proname !~ '^_' ORDER BY 1;
-- Security definer functions and those in SQL or plpgsql fix their search path.
SELECT p.proname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = 'prompt_cache'::regnamespace
   AND l.lanname <> 'c' AND NOT coalesce(p.proconfig @> '{"search_path=pg_catalog, pg_temp"}', false);
-- What a dump carries: the wiring and the application prompt, not the cache.
SELECT unnest(extconfig)::regclass, unnest(extcondition) AS condition FROM pg_extension WHERE extname = 'prompt_cache' ORDER BY 1;
SELECT extrelocatable FROM pg_extension WHERE extname = 'prompt_cache';
-- Settings, under a reserved prefix.
SELECT name, boot_val, unit, context FROM pg_settings WHERE name LIKE 'prompt\_cache.%' AND context <> 'postmaster'
   AND short_desc !~ '^Test builds' ORDER BY name;
SET prompt_cache.no_such_setting = 1;
DROP SCHEMA inspection CASCADE;
