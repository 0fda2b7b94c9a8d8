-- What lies in a temporary schema is no part of a value for everybody: DDL on it invalidates nothing. What lies elsewhere still does.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA temporary_objects;
SET search_path = temporary_objects;
\set VERBOSITY terse
CREATE TABLE users (user_id bigint PRIMARY KEY, system_prompt text);
INSERT INTO users VALUES (42, 'forty-two');
CREATE FUNCTION twice(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT key || key $$;
SELECT prompt_cache.attach('users', NULL), prompt_cache.create_namespace('n', 'twice(text)');
-- Two letters: is the prompt in memory, is the value? Then both are, and nonces left since are counted.
CREATE FUNCTION kept(OUT state text) LANGUAGE plpgsql AS $$
BEGIN
    SELECT concat(CASE g.source WHEN 'memory' THEN 'p' ELSE '-' END, CASE f.source WHEN 'memory' THEN 'v' ELSE '-' END)
      INTO state FROM prompt_cache.get_or_build(42) g, prompt_cache.fetch_many('n', '{a}') f;
    state := state || ' ' || (SELECT count(*) FROM prompt_cache.tag_nonce WHERE tag < 0)
             - current_setting('temporary_objects.nonces', true)::bigint;
END
$$;
CREATE FUNCTION nonces() RETURNS text LANGUAGE sql AS $$
    SELECT set_config('temporary_objects.nonces', (SELECT count(*) FROM prompt_cache.tag_nonce WHERE tag < 0)::text, false)
$$;
SELECT nonces() IS NOT NULL AS counted;
SELECT kept() IS NOT NULL AS warm;
SELECT kept();

CREATE TEMP TABLE first_one (a int);                      SELECT kept();
CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';    SELECT kept();
CREATE OR REPLACE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 2';    SELECT kept();
ALTER FUNCTION pg_temp.f() COST 7;                        SELECT kept();
GRANT EXECUTE ON FUNCTION pg_temp.f() TO pg_monitor;      SELECT kept();
COMMENT ON FUNCTION pg_temp.f() IS 'temporary';           SELECT kept();
CREATE AGGREGATE pg_temp.total(int) (sfunc = int4pl, stype = int);    SELECT kept();
CREATE TYPE pg_temp.pair AS (x int, y int);               SELECT kept();
ALTER TYPE pg_temp.pair ADD ATTRIBUTE z int;              SELECT kept();
CREATE TYPE pg_temp.mood AS ENUM ('calm', 'tense');       SELECT kept();
ALTER TYPE pg_temp.mood ADD VALUE 'glad';                 SELECT kept();
ALTER TYPE pg_temp.mood RENAME VALUE 'calm' TO 'serene';  SELECT kept();
CREATE DOMAIN pg_temp.short AS text CHECK (length(VALUE) < 9);    SELECT kept();
CREATE FUNCTION pg_temp.eq(pg_temp.pair, pg_temp.pair) RETURNS boolean LANGUAGE sql AS 'SELECT true';    SELECT kept();
CREATE OPERATOR pg_temp.=== (leftarg = pg_temp.pair, rightarg = pg_temp.pair, function = pg_temp.eq);    SELECT kept();
CREATE FUNCTION pg_temp.words(pg_temp.pair) RETURNS text LANGUAGE sql AS $$ SELECT 'pair' $$;    SELECT kept();
CREATE CAST (pg_temp.pair AS text) WITH FUNCTION pg_temp.words(pg_temp.pair);    SELECT kept();
CREATE COLLATION pg_temp.c FROM "C";                      SELECT kept();
CREATE TEXT SEARCH CONFIGURATION pg_temp.t (COPY = simple);    SELECT kept();
ALTER TEXT SEARCH CONFIGURATION pg_temp.t DROP MAPPING FOR int;    SELECT kept();
CREATE TEXT SEARCH DICTIONARY pg_temp.d (TEMPLATE = simple);    SELECT kept();
CREATE TEMP VIEW v AS SELECT pg_temp.f();                 SELECT kept();
CREATE OR REPLACE TEMP VIEW v AS SELECT pg_temp.f(), 2 AS two;    SELECT kept();
DROP VIEW v;                                              SELECT kept();
DROP CAST (pg_temp.pair AS text);                         SELECT kept();
DROP TEXT SEARCH CONFIGURATION pg_temp.t;                 SELECT kept();
DROP TYPE pg_temp.mood;                                   SELECT kept();
DROP TYPE pg_temp.pair CASCADE;                           SELECT kept();
DISCARD TEMP;                                             SELECT kept();
BEGIN;
CREATE TEMP TABLE t (a int, b pg_catalog.text) ON COMMIT DROP;
CREATE FUNCTION pg_temp.g(t) RETURNS int LANGUAGE sql AS 'SELECT 1';
COMMIT;
SELECT kept();
BEGIN;
CREATE FUNCTION pg_temp.h() RETURNS int LANGUAGE sql AS 'SELECT 1';
SAVEPOINT s;
CREATE TYPE pg_temp.e AS ENUM ('a');
ROLLBACK TO s;
COMMIT;
SELECT kept();

-- The like elsewhere is noticed, beside temporary objects too.
CREATE FUNCTION other() RETURNS int LANGUAGE sql AS 'SELECT 1';    SELECT kept() AS no_v;
BEGIN;
CREATE TYPE pg_temp.e AS ENUM ('a');
CREATE TYPE mood AS ENUM ('calm');
COMMIT;
SELECT kept() AS no_v;
CREATE TYPE pair AS (x int);                              SELECT kept() AS no_v;
ALTER TYPE pair ADD ATTRIBUTE y int;                      SELECT kept() AS no_v;
BEGIN;
CREATE FUNCTION pg_temp.words(pair) RETURNS text LANGUAGE sql AS $$ SELECT 'pair' $$;
CREATE OR REPLACE FUNCTION twice(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT key || '!' $$;
COMMIT;
SELECT prompt_cache.fetch('n', 'a');
DROP SCHEMA temporary_objects CASCADE;
