-- verify(), warm() and stats_reset().
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA maintenance;
SET search_path = maintenance;
\set VERBOSITY terse

-- Before attach(), and with nothing in any tier.
SELECT * FROM prompt_cache.verify();
SELECT prompt_cache.warm();
CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);
INSERT INTO tenants VALUES (1, 'T1'), (2, NULL);
INSERT INTO users SELECT u, 1 + u % 3, 'u' || u FROM generate_series(1, 30) u;
SELECT prompt_cache.attach(), prompt_cache.set_application_prompt('app');
SELECT * FROM prompt_cache.verify();
SELECT prompt_cache.warm();

-- warm(): those named, whatever is in the table; an id that is nobody's is not warm; NULLs and doubles count once or not.
SELECT prompt_cache.warm(ARRAY['1', '2', '3', '2', NULL, '999']);
SELECT id, source FROM generate_series(1, 4) id, prompt_cache.get_or_build(id) ORDER BY id;
SELECT prompt_cache.warm(ARRAY['1', '2', '3'], 2), prompt_cache.warm('{}'), prompt_cache.warm(max_users => 0);
SELECT prompt_cache.warm(ARRAY['x']);
SELECT prompt_cache.warm(max_users => -1);
-- From the table after memory was lost, built anew where the table is no longer current.
SELECT count(prompt_cache.prompt(user_id)) FROM users;
SELECT prompt_cache.flush();
UPDATE users SET system_prompt = 'changed' WHERE user_id = 30;
SELECT prompt_cache.warm(max_users => 1000);
SELECT source, count(*) FROM users, prompt_cache.get_or_build(user_id) GROUP BY source;
-- In a transaction that has changed a user, that user cannot be in memory.
BEGIN;
UPDATE users SET system_prompt = 'mine' WHERE user_id = 5;
SELECT prompt_cache.warm(ARRAY['4', '5']);
ROLLBACK;

-- verify(): no difference, in any tier, after every kind of change; it counts as no lookup.
CREATE TEMP TABLE before AS SELECT lookups, builds FROM prompt_cache.stats;
SELECT prompt_cache.flush() > 0 AS flushed;
SELECT * FROM prompt_cache.verify();
UPDATE users SET system_prompt = NULL, tenant_id = NULL WHERE user_id = 1;
UPDATE tenants SET system_prompt = 'T1 new' WHERE id = 1;
DELETE FROM users WHERE user_id = 2;
UPDATE users SET user_id = 200 WHERE user_id = 3;
SELECT prompt_cache.set_application_prompt('app new');
SELECT * FROM prompt_cache.verify();
BEGIN;
UPDATE users SET system_prompt = 'mine' WHERE user_id = 6;
SELECT * FROM prompt_cache.verify();
ROLLBACK;
SELECT s.lookups = b.lookups AS same_lookups, s.builds = b.builds AS same_builds FROM prompt_cache.stats s, before b;
SELECT count(prompt_cache.prompt(id)) FROM generate_series(1, 200) id;
SELECT prompt_cache.flush() > 0 AS flushed;
SELECT * FROM prompt_cache.verify();
-- It can find something: a row of the table that somebody has written to.
UPDATE prompt_cache.user_prompt_cache SET cached_prompt = overlay(cached_prompt PLACING 'X' FROM length(cached_prompt)) WHERE user_id = 7 AND replaced_at IS NULL;
SELECT * FROM prompt_cache.verify();
DELETE FROM prompt_cache.user_prompt_cache WHERE user_id = 7;
SELECT * FROM prompt_cache.verify(1000000);
SELECT * FROM prompt_cache.verify(0);
SELECT * FROM prompt_cache.verify(NULL);
SELECT * FROM prompt_cache.verify(-1);

-- stats_reset(): the counters begin anew, the entries stay.
SELECT prompt_cache.stats_reset(), prompt_cache.stats_reset('prompt');
SELECT lookups, hits_memory, misses, builds, bypasses, invalidations, hit_rate, build_ms_avg, entries > 0 AS entries, stats_reset > now() - interval '1 min' AS recent
  FROM prompt_cache.stats;
SELECT source FROM prompt_cache.get_or_build(8);
SELECT lookups, hits_memory, hit_rate FROM prompt_cache.stats;
SELECT prompt_cache.stats_reset('no such namespace');
DROP SCHEMA maintenance CASCADE;
