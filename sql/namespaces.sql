-- Namespaces: made, fetched, invalidated by the rows that a builder reads, dropped. The oracle is fetch() = rebuild().
CREATE TABLE menus (id int PRIMARY KEY, parent int, title text NOT NULL, role text, clicks int NOT NULL DEFAULT 0);
INSERT INTO menus SELECT i, nullif(i / 3, 0), 'menu ' || i, CASE WHEN i % 2 = 0 THEN 'admin' ELSE 'user' END FROM generate_series(1, 20) i;

CREATE FUNCTION menu_of(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(title, ',' ORDER BY id) FROM menus WHERE role = key
$$;
CREATE FUNCTION exact(space text, key text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT prompt_cache.fetch(space, key) IS NOT DISTINCT FROM prompt_cache.rebuild(space, key)
$$;
-- Where a value comes from, and whether it is right.
CREATE FUNCTION look(space text, k text, OUT source text, OUT exact boolean) LANGUAGE sql STABLE AS $$
    SELECT f.source, f.value IS NOT DISTINCT FROM prompt_cache.rebuild(space, k) FROM prompt_cache.fetch_many(space, ARRAY[k]) f
$$;

SELECT prompt_cache.create_namespace('menus', 'menu_of(text)', '15 min', 500);
SELECT prompt_cache.watch('menus', 'menus', 'role', '{title,role}');
SELECT prompt_cache.watch('menus', 'menus', 'role', '{title,role}') AS again;
SELECT * FROM prompt_cache.namespaces;

-- id is read too, and not watched: that is told, and stays told.
SELECT prompt_cache.fetch('menus', 'admin');
SELECT unwatched FROM prompt_cache.namespaces;
SELECT r FROM jsonb_array_elements_text(prompt_cache.health() -> 'reasons') r WHERE r ~ 'menus';
SELECT prompt_cache.unwatch('menus', 'menus'), prompt_cache.unwatch('menus', 'menus') AS again;
SELECT prompt_cache.watch('menus', 'menus', 'role', '{id,title,role}');
SELECT prompt_cache.fetch('menus', 'admin');
SELECT unwatched FROM prompt_cache.namespaces;

-- A hit, and what ends it: only rows of the key, only columns that are watched.
SELECT look('menus', 'admin'), look('menus', 'user'), look('menus', 'user');
UPDATE menus SET clicks = clicks + 1;
SELECT look('menus', 'admin'), look('menus', 'user');
UPDATE menus SET title = 'new' WHERE id = 2;
SELECT look('menus', 'admin'), look('menus', 'user');
UPDATE menus SET role = 'user' WHERE id = 2;
SELECT look('menus', 'admin'), look('menus', 'user');
DELETE FROM menus WHERE id = 4;
INSERT INTO menus VALUES (30, NULL, 'thirty', 'user');
SELECT look('menus', 'admin'), look('menus', 'user'), look('menus', 'nobody'), look('menus', 'nobody');
TRUNCATE menus;
SELECT look('menus', 'admin'), look('menus', 'user'), prompt_cache.fetch('menus', 'user') IS NULL AS empty;

-- Own uncommitted changes are seen by their author alone, and leave nothing behind on rollback.
BEGIN;
INSERT INTO menus VALUES (1, NULL, 'mine', 'user');
SELECT look('menus', 'user'), prompt_cache.fetch('menus', 'user');
SAVEPOINT a;
UPDATE menus SET title = 'mine too';
SELECT look('menus', 'user'), prompt_cache.fetch('menus', 'user');
ROLLBACK TO a;
SELECT look('menus', 'user'), prompt_cache.fetch('menus', 'user');
ROLLBACK;
SELECT look('menus', 'user'), prompt_cache.fetch('menus', 'user') IS NULL AS empty;

-- Another builder, another life time: other entries. DDL on what a builder is made of.
CREATE FUNCTION titles(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT count(*) || ' of ' || key FROM menus WHERE role = key);
END
$$;
INSERT INTO menus VALUES (1, NULL, 'one', 'user');
SELECT prompt_cache.alter_namespace('menus', 'titles(text)', ttl => '1 min', sliding => true);
SELECT look('menus', 'user'), prompt_cache.fetch('menus', 'user');
CREATE OR REPLACE FUNCTION titles(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT 'now ' || count(*) || ' of ' || key FROM menus WHERE role = key);
END
$$;
SELECT look('menus', 'user'), prompt_cache.fetch('menus', 'user');
BEGIN;
CREATE OR REPLACE FUNCTION titles(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'mine' $$;
SELECT look('menus', 'user'), prompt_cache.fetch('menus', 'user');
ROLLBACK;
SELECT look('menus', 'user'), prompt_cache.fetch('menus', 'user');
ALTER TABLE menus ALTER title TYPE varchar(100);
SELECT look('menus', 'user');
ALTER TABLE menus DISABLE TRIGGER USER;
SELECT look('menus', 'user'), look('menus', 'user');
SELECT prompt_cache.health() ->> 'status' AS status, r ->> 'table' AS source, r ->> 'repair' ~ 'ENABLE ALWAYS' AS repair
  FROM jsonb_array_elements(prompt_cache.health() -> 'triggers') r WHERE r ->> 'table' ~ 'menus' ORDER BY r ->> 'trigger';
ALTER TABLE menus ENABLE TRIGGER USER;
SELECT repaired FROM prompt_cache._repair_triggers();
SELECT look('menus', 'user'), look('menus', 'user');

-- A builder that goes, is made VOLATILE, or whose table goes.
ALTER FUNCTION titles(text) VOLATILE;
SELECT prompt_cache.fetch('menus', 'user');
DROP FUNCTION titles(text);
SELECT prompt_cache.fetch('menus', 'user');
SELECT problem FROM prompt_cache.namespaces;
SELECT prompt_cache.alter_namespace('menus', 'menu_of(text)');
SELECT look('menus', 'user');
DROP TABLE menus;
SELECT prompt_cache.fetch('menus', 'user');
SELECT prompt_cache.drop_namespace('menus');
SELECT count(*) FROM prompt_cache.namespaces;
DROP FUNCTION menu_of(text), exact(text, text), look(text, text);

-- What the namespaces are concerns nobody else's entries: no prompt, and no value of another namespace, is built again.
CREATE FUNCTION echo(key text) RETURNS text LANGUAGE sql STABLE AS 'SELECT key';
SELECT prompt_cache.create_namespace('one', 'echo(text)'), prompt_cache.allow('pg_read_all_data', 'one');
SELECT prompt_cache.fetch('one', 'k');
SELECT prompt_cache.create_namespace('two', 'echo(text)'), prompt_cache.allow('pg_read_all_data', 'two'), prompt_cache.alter_namespace('two', ttl => '1 min');
SELECT source FROM prompt_cache.fetch_many('one', '{k}');
BEGIN;
SELECT prompt_cache.alter_namespace('one', ttl => '1 min');
SELECT source FROM prompt_cache.fetch_many('one', '{k}');
ROLLBACK;
SELECT prompt_cache.fetch('one', 'k');
SELECT prompt_cache.deny('pg_read_all_data', 'two'), prompt_cache.drop_namespace('two');
SELECT source FROM prompt_cache.fetch_many('one', '{k}');
SELECT prompt_cache.alter_namespace('one', ttl => '1 min');
SELECT source FROM prompt_cache.fetch_many('one', '{k,k}');
SELECT prompt_cache.deny('pg_read_all_data', 'one'), prompt_cache.drop_namespace('one');
DROP FUNCTION echo(text);
