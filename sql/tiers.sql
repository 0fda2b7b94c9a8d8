-- Which tier answers: built, memory, table; what a change costs, and what costs nothing.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA tiers;
SET search_path = tiers;

CREATE TABLE tenants (id bigint PRIMARY KEY, name text, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text, last_login timestamptz);
INSERT INTO tenants SELECT t, 'T' || t, 'tenant ' || t FROM generate_series(1, 3) t;
INSERT INTO users SELECT u, CASE WHEN u <= 1000 THEN 1 ELSE 2 END, 'user ' || u FROM generate_series(1, 1010) u;
SELECT prompt_cache.attach();
SELECT prompt_cache.set_application_prompt('app');

-- Oracle and tier of a call; and of all calls.
CREATE FUNCTION look(id bigint) RETURNS TABLE (source text, cached boolean, exact boolean) LANGUAGE sql STABLE AS $$
    SELECT g.source, g.cached, g.prompt IS NOT DISTINCT FROM prompt_cache.build(id) FROM prompt_cache.get_or_build(id) g
$$;
CREATE FUNCTION look_all(last bigint DEFAULT 10000) RETURNS TABLE (source text, users bigint, exact boolean) LANGUAGE sql STABLE AS $$
    SELECT l.source, count(*), bool_and(l.exact) FROM users u, look(u.user_id) l WHERE u.user_id <= last GROUP BY l.source ORDER BY l.source
$$;
-- Users share slots, so that a change of one may cost a few more builds than it must, never fewer. Tenants and the
-- application prompt have slots that no user has.
CREATE FUNCTION cost(n bigint, built bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN built BETWEEN n AND n + 5 THEN 'as it must' ELSE built::text END
$$;
CREATE FUNCTION look_after(n bigint) RETURNS TABLE (builds text, exact boolean) LANGUAGE sql STABLE AS $$
    SELECT cost(n, count(*) FILTER (WHERE l.source = 'built')), bool_and(l.exact) FROM users u, look(u.user_id) l
$$;
CREATE TEMP TABLE before AS SELECT 0::bigint AS builds;
CREATE FUNCTION remember() RETURNS void LANGUAGE sql AS 'UPDATE before SET builds = (SELECT builds FROM prompt_cache.stats)';
CREATE FUNCTION builds() RETURNS bigint LANGUAGE sql AS 'SELECT s.builds - b.builds FROM prompt_cache.stats s, before b';

-- Built, then memory; the scalar form too.
SELECT * FROM look(42);
SELECT * FROM look(42);
SELECT prompt_cache.prompt(42) = (prompt_cache.get_or_build(42)).prompt AS same;
SELECT * FROM look(99999);
SELECT * FROM look(99999);

-- An UPDATE of a user costs one build, of that user.
UPDATE users SET system_prompt = 'new' WHERE user_id = 42;
SELECT remember();
SELECT * FROM look(42);
SELECT * FROM look(42);
SELECT builds();

-- Columns that matter to nobody, and writes that change nothing, cost nothing.
SELECT source, users, exact FROM look_all() WHERE source = 'built';
SELECT remember();
UPDATE users SET last_login = now();
UPDATE users SET system_prompt = system_prompt;
UPDATE tenants SET name = 'T';
SELECT * FROM look_all();
SELECT builds();

-- A tenant's edit costs one build, whoever asks first.
UPDATE tenants SET system_prompt = 'new guidelines' WHERE id = 1;
SELECT remember();
SELECT source, users FROM look_all();
SELECT builds(), bool_and(prompt_cache.prompt(u.user_id) LIKE '%new guidelines%') AS new FROM users u WHERE tenant_id = 1;
SELECT prompt_cache.set_application_prompt('new app');
SELECT remember();
SELECT source, users FROM look_all();
SELECT builds(), bool_and(prompt_cache.prompt(u.user_id) LIKE 'new app%') AS new FROM users u;
SELECT * FROM look_all();

-- A user moves to another tenant.
UPDATE users SET tenant_id = 2 WHERE user_id = 7;
SELECT prompt_cache.prompt(7) LIKE '%tenant 2%' AS moved, exact FROM look(7);
-- Two users swap prompts; two swap keys.
UPDATE users u SET system_prompt = o.system_prompt FROM users o WHERE (u.user_id, o.user_id) IN ((1, 2), (2, 1));
SELECT prompt_cache.prompt(1) LIKE '%user 2' AS swapped, prompt_cache.prompt(2) LIKE '%user 1' AS swapped;
BEGIN;
UPDATE users SET user_id = -3 WHERE user_id = 3;
UPDATE users SET user_id = 3 WHERE user_id = 4;
UPDATE users SET user_id = 4 WHERE user_id = -3;
COMMIT;
SELECT prompt_cache.prompt(3) LIKE '%user 4' AS swapped, prompt_cache.prompt(4) LIKE '%user 3' AS swapped, prompt_cache.prompt(-3) IS NULL AS gone;
DELETE FROM tenants WHERE id = 2;
SELECT prompt_cache.prompt(7) LIKE '%tenant%' AS tenant_left, exact FROM look(7);
SELECT count(*) AS wrong FROM users u, look(u.user_id) l WHERE NOT l.exact;

-- Invalidation by hand, by key or number.
SELECT source, count(*) FROM users u, look(u.user_id) GROUP BY source;
SELECT prompt_cache.invalidate_user(5), prompt_cache.invalidate_user_key('6');
SELECT * FROM look_after(2);
SELECT prompt_cache.invalidate_tenant(1), prompt_cache.invalidate_tenant_key('3');
SELECT * FROM look_after(1);
SELECT prompt_cache.invalidate_user(NULL) IS NULL AS null_user, prompt_cache.invalidate_tenant_key(NULL) IS NULL AS null_tenant;

-- The table: written by flush(), once; read where memory is switched off; and fills nothing that is not current.
SELECT prompt_cache.flush();
SELECT prompt_cache.flush() AS again;
SET prompt_cache.memory = off;
SELECT * FROM look_all(20);
UPDATE users SET system_prompt = 'newer' WHERE user_id = 8;
SELECT * FROM look_all(20);
SET prompt_cache.database = off;
SELECT * FROM look_all(20);
RESET prompt_cache.memory;
SELECT * FROM look_after(1);
RESET prompt_cache.database;
-- History: the row before is replaced, not changed.
SELECT prompt_cache.flush() BETWEEN 1 AND 6 AS one;
SELECT cached_prompt LIKE '%newer' AS newest, replaced_at IS NULL AS current, user_key, user_id, tenant_key
  FROM prompt_cache.user_prompt_cache WHERE user_id = 8 ORDER BY id DESC;
-- The rows of a deleted user go with the next flush().
DELETE FROM users WHERE user_id = 8;
SET prompt_cache.memory = off;
SELECT source, exact FROM look(8);
RESET prompt_cache.memory;
SELECT prompt_cache.flush() AS written, count(*) FILTER (WHERE user_id = 8) AS left_over FROM prompt_cache.user_prompt_cache;
SELECT count(*) AS left_over FROM prompt_cache.user_prompt_cache WHERE user_id = 8;
-- clear() makes the rows unusable as well, but not when it is rolled back.
BEGIN;
SELECT prompt_cache.clear() > 1000 AS many;
ROLLBACK;
SELECT source, count(*) > 1000 AS many, bool_and(exact) AS exact FROM users u, look(u.user_id) WHERE user_id > 10 GROUP BY source;
SELECT prompt_cache.clear() > 1000 AS many;
SELECT source, users > 1000 AS many, exact FROM look_all();
SELECT source, users > 1000 AS many, exact FROM look_all();
SELECT prompt_cache.clear() > 1000 AS many;
SELECT prompt_cache.clear();

DROP SCHEMA tiers CASCADE;
