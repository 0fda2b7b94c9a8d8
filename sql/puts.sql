-- What is put is void once its own transaction changes what it was made of, also where only DDL tells.
CREATE TABLE parts (k text, v text) PARTITION BY LIST (k);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
INSERT INTO parts VALUES ('a', '1'), ('b', '1');
SELECT prompt_cache.create_namespace('counts'), prompt_cache.watch('parts', 'counts');
CREATE FUNCTION right_one(OUT found boolean, OUT exact boolean) LANGUAGE sql STABLE AS $$
    SELECT g.found, NOT g.found OR g.value = (SELECT count(*)::text FROM parts) FROM prompt_cache.get('counts', 'n') g
$$;
SELECT prompt_cache.put('counts', 'n', (SELECT count(*)::text FROM parts));
SELECT * FROM right_one();
BEGIN;
SELECT prompt_cache.put('counts', 'n', (SELECT count(*)::text FROM parts));
TRUNCATE parts_a;
COMMIT;
SELECT * FROM right_one();
BEGIN;
SELECT prompt_cache.put('counts', 'n', (SELECT count(*)::text FROM parts));
ALTER TABLE parts DETACH PARTITION parts_rest;
COMMIT;
SELECT * FROM right_one();
BEGIN;
SELECT prompt_cache.put('counts', 'n', (SELECT count(*)::text FROM parts));
SAVEPOINT a;
TRUNCATE parts;
ROLLBACK TO a;
COMMIT;
SELECT * FROM right_one();
BEGIN;
ALTER TABLE parts ATTACH PARTITION parts_rest DEFAULT;
SELECT prompt_cache.put('counts', 'n', (SELECT count(*)::text FROM parts));
COMMIT;
SELECT * FROM right_one();
SELECT prompt_cache.put('counts', 'n', (SELECT count(*)::text FROM parts));
SELECT * FROM right_one();
SELECT prompt_cache.drop_namespace('counts');
DROP TABLE parts;
DROP FUNCTION right_one;
