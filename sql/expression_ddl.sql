-- DDL on what a prompt's expression is made of: functions, types, schemas, columns.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA expression_ddl;
SET search_path = expression_ddl;
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
CREATE TABLE "user" (id text PRIMARY KEY, name varchar(40));
INSERT INTO "user" VALUES ('ann', 'Ann'), ('bob', 'Bob');

-- What an expression is made of may be replaced.
CREATE TYPE mood AS ENUM ('calm', 'tense');
CREATE FUNCTION polite(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'please ' || t $$;
ALTER TABLE "user" ADD mood mood DEFAULT 'calm';
SELECT prompt_cache.attach('"user"', NULL, user_prompt => $$polite(name::text || ' ' || mood)$$);
SELECT l.* FROM look('ann') l;
CREATE OR REPLACE FUNCTION polite(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'kindly ' || t $$;
SELECT l.* FROM look('ann') l;
ALTER TYPE mood RENAME VALUE 'calm' TO 'serene';
SELECT l.* FROM look('ann') l;
BEGIN;
CREATE OR REPLACE FUNCTION polite(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'draft ' || t $$;
SELECT l.* FROM look('ann') l;
ROLLBACK;
SELECT l.* FROM look('ann') l;
SELECT prompt_cache.flush() > 0 AS flushed;
CREATE OR REPLACE FUNCTION polite(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'dear ' || t $$;
SELECT l.* FROM look('ann') l;
SELECT marks() > 0 AS counted;
CREATE TEMP TABLE other (id int);
CREATE FUNCTION polite(t integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'other' $$;
SELECT marks();
SELECT l.* FROM look('ann') l;
ALTER FUNCTION polite(text) VOLATILE;
SELECT prompt_cache.prompt_key('ann');
SELECT prompt_cache.health()->'reasons', (SELECT problem FROM prompt_cache.attachments);
UPDATE "user" SET name = 'Anna' WHERE id = 'ann';
ALTER FUNCTION polite(text) STABLE;
SELECT l.* FROM look('ann') l;
SELECT prompt_cache.health()->'reasons';
DROP FUNCTION polite(text);
SELECT prompt_cache.prompt_key('ann');
UPDATE "user" SET name = 'Ann' WHERE id = 'ann';
CREATE FUNCTION polite(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'again ' || t $$;
SELECT l.* FROM look('ann') l;
CREATE SCHEMA elsewhere;
ALTER FUNCTION polite(text) SET SCHEMA elsewhere;
SELECT prompt_cache.prompt_key('ann');
SELECT prompt_cache.attach('"user"', NULL, user_prompt => 'elsewhere.polite(name)');
SELECT l.* FROM look('ann') l;
ALTER SCHEMA elsewhere RENAME TO nowhere;
SELECT prompt_cache.prompt_key('ann');
ALTER SCHEMA nowhere RENAME TO elsewhere;
SELECT l.* FROM look('ann') l;
ALTER TABLE "user" RENAME name TO called;
SELECT prompt_cache.prompt_key('ann');

-- A composite type; an operator that is dropped and made again.
CREATE TYPE spot AS (x int, y int);
ALTER TABLE "user" ADD spot spot DEFAULT '(1,2)';
SELECT prompt_cache.attach('"user"', NULL, user_prompt => 'spot::text');
SELECT l.* FROM look('ann') l;
ALTER TYPE spot ADD ATTRIBUTE z int;
SELECT l.* FROM look('ann') l;
CREATE FUNCTION glue(a text, b text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT a || '-' || b $$;
CREATE OPERATOR ~~~ (leftarg = text, rightarg = text, function = glue);
SELECT prompt_cache.attach('"user"', NULL, user_prompt => 'called ~~~ id');
SELECT user_prompt FROM prompt_cache.attachments;
SELECT l.* FROM look('ann') l;
BEGIN;
DROP OPERATOR ~~~ (text, text);
CREATE FUNCTION glue2(a text, b text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT a || '+' || b $$;
CREATE OPERATOR ~~~ (leftarg = text, rightarg = text, function = glue2);
SELECT l.* FROM look('ann') l;
COMMIT;
SELECT l.* FROM look('ann') l;
SELECT l.* FROM look('ann') l;
DROP SCHEMA expression_ddl, elsewhere CASCADE;
