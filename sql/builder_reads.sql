-- What a builder reads: every table that nothing watches is told, however it is read.
CREATE TABLE one (v text);
CREATE TABLE two (v text);
INSERT INTO one VALUES ('1');
INSERT INTO two VALUES ('2');
CREATE FUNCTION look(space text, k text, OUT source text, OUT value text, OUT exact boolean) LANGUAGE sql STABLE AS $$
    SELECT f.source, f.value, f.value IS NOT DISTINCT FROM prompt_cache.rebuild(space, k) FROM prompt_cache.fetch_many(space, ARRAY[k]) f
$$;
CREATE FUNCTION unwatched() RETURNS TABLE (namespace text, unwatched text[]) LANGUAGE sql STABLE AS $$
    SELECT namespace, unwatched FROM prompt_cache.namespaces ORDER BY 1
$$;

-- One statement after the other, which lie at the same place in memory once the caches are warm.
CREATE FUNCTION dynamic(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    n text; part text; value text := '';
BEGIN
    FOREACH n IN ARRAY string_to_array(key, ',') LOOP
        EXECUTE 'SELECT min(v) FROM ' || n INTO part;
        value := value || part;
    END LOOP;
    RETURN value;
END
$$;
SELECT prompt_cache.create_namespace('dynamic', 'dynamic(text)'), prompt_cache.watch('one', 'dynamic');
SELECT dynamic('one,two,one,two') AS warm;
SELECT look('dynamic', 'one,two');
SELECT * FROM unwatched();
SELECT look('dynamic', 'one,one,two'), look('dynamic', 'one,two,one');
SELECT prompt_cache.watch('two', 'dynamic');
SELECT look('dynamic', 'one,two'), look('dynamic', 'one,two');
UPDATE two SET v = '3';
SELECT look('dynamic', 'one,two');
SELECT * FROM unwatched();
SELECT prompt_cache.drop_namespace('dynamic');


-- Inheritance: a child that is no partition has rows of its own, read with the columns that the query asks its parent for.
CREATE TABLE parent (id int, name text, note text);
CREATE TABLE child (extra text) INHERITS (parent);
INSERT INTO parent VALUES (1, 'p', 'x');
INSERT INTO child VALUES (2, 'c', 'y', 'z');
CREATE FUNCTION names(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT string_agg(name, ',' ORDER BY id) FROM parent $$;
SELECT prompt_cache.create_namespace('names', 'names(text)'), prompt_cache.watch('parent', 'names'), prompt_cache.watch('child', 'names', NULL, '{note}');
SELECT look('names', 'k');
SELECT * FROM unwatched();
SELECT prompt_cache.watch('child', 'names');
SELECT look('names', 'k'), look('names', 'k');
SELECT * FROM unwatched();
UPDATE child SET name = 'C';
SELECT look('names', 'k');
SELECT prompt_cache.drop_namespace('names');

-- In a parallel query: functions that workers run read where the builder does not see it.
CREATE TABLE many AS SELECT 1 AS i FROM generate_series(1, 1000);
CREATE FUNCTION of_two(i int) RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN RETURN (SELECT min(v) FROM two); END $$;
CREATE FUNCTION parallel(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT max(of_two(i)) FROM many); END $$;
SELECT prompt_cache.create_namespace('parallel', 'parallel(text)'), prompt_cache.watch('many', 'parallel');
SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET parallel_leader_participation = off;
ALTER TABLE many SET (parallel_workers = 2);
SELECT parallel('planned before') AS warm;
SELECT look('parallel', 'k');
SELECT * FROM unwatched();
RESET ALL;
SELECT prompt_cache.drop_namespace('parallel');

-- A key's expression has the same value for both rows, but the column that it reads does not.
CREATE TABLE cased (id int PRIMARY KEY, k text, note text);
INSERT INTO cased VALUES (1, 'A', 'x'), (2, 'B', 'x');
CREATE FUNCTION cased_of(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT min(k) FROM cased WHERE lower(k) = key $$;
SELECT prompt_cache.create_namespace('cased', 'cased_of(text)'), prompt_cache.watch('cased', 'cased', 'lower(k)', '{note}');
SELECT look('cased', 'a'), look('cased', 'a'), look('cased', 'b');
UPDATE cased SET k = 'a' WHERE id = 1;
SELECT look('cased', 'a'), look('cased', 'b');
UPDATE cased SET id = 3 WHERE id = 1;
SELECT look('cased', 'a');
SELECT * FROM unwatched();
SELECT prompt_cache.drop_namespace('cased');

-- What a builder is made of beside functions: composite types, text search.
CREATE TYPE pair AS (left_one int, right_one int);
CREATE TEXT SEARCH CONFIGURATION searching (COPY = pg_catalog.simple);
CREATE FUNCTION made_of(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN row_to_json(ROW(1, 2)::pair)::text || to_tsvector('searching', key);
END
$$;
SELECT prompt_cache.create_namespace('made_of', 'made_of(text)');
SELECT look('made_of', 'houses'), look('made_of', 'houses');
ALTER TYPE pair RENAME ATTRIBUTE left_one TO first_one;
SELECT look('made_of', 'houses');
ALTER TEXT SEARCH CONFIGURATION searching ALTER MAPPING FOR asciiword WITH english_stem;
SELECT look('made_of', 'houses');
BEGIN;
ALTER TYPE pair RENAME ATTRIBUTE first_one TO mine;
SELECT look('made_of', 'houses');
ROLLBACK;
SELECT look('made_of', 'houses'), look('made_of', 'houses');
SELECT prompt_cache.drop_namespace('made_of');
DROP TABLE one, two, parent, child, many, cased;
DROP TYPE pair;
DROP TEXT SEARCH CONFIGURATION searching;
DROP FUNCTION look, unwatched, dynamic, names, of_two, parallel, cased_of, made_of;
