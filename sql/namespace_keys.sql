-- Keys of namespaces are bytes: NULL and too long ones are refused, all others are answered, cached and told apart, in databases of any encoding.
-- And what a builder raises is its caller's, each time.
SET client_min_messages = warning;
CREATE FUNCTION echo(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT '<' || key || '>' $$;
SELECT prompt_cache.create_namespace('echo', 'echo(text)'), prompt_cache.create_namespace('plain');
\set SHOW_CONTEXT never
SELECT prompt_cache.fetch('echo', NULL);
SELECT prompt_cache.fetch('echo', repeat('k', 10 * 1024 * 1024));
\set VERBOSITY sqlstate
SELECT prompt_cache.fetch('echo', NULL);
SELECT prompt_cache.lease('plain', NULL);
SELECT prompt_cache.fetch('echo', repeat('k', 10 * 1024 * 1024));
SELECT prompt_cache.get('echo', repeat('k', 10 * 1024 * 1024));
SELECT prompt_cache.rebuild('echo', repeat('k', 1025));
SELECT prompt_cache.fetch_many('echo', ARRAY['ok', repeat('ß', 513)]);
SELECT prompt_cache.put('plain', repeat('k', 1025), 'v');
SELECT prompt_cache.put('plain', 'k', 'v', tags => ARRAY[repeat('t', 1025)]);
SELECT prompt_cache.lease('plain', repeat('k', 1025));
SELECT prompt_cache.forget('plain', repeat('k', 1025));
SELECT prompt_cache.forget_prefix('plain', repeat('k', 1025));
SELECT prompt_cache.forget_tag(repeat('t', 1025));
\set VERBOSITY default
SELECT count(*) AS stored FROM prompt_cache.entries WHERE namespace IN ('echo', 'plain');

-- Nothing in a key is a pattern, a path, or a number.
CREATE TABLE odd (n serial, key text);
INSERT INTO odd (key) VALUES (''), (' '), (E'\n'), (E'a\nb'), (E'\t\\'), ('שלום'), (U&'\202Eabc'), ('🙂'), ('é'), (U&'e\0301'), ('%'), ('_'), ('*'), ('/'), ('a/b'), ('1'), ('01'), ('1 '),
    ('NULL'), ($$'"; --$$), (repeat('k', 1024)), (repeat('k', 1023)), (repeat('ß', 512));
SELECT count(*), count(DISTINCT f.key), bool_and(f.value = '<' || o.key || '>') AS exact, string_agg(DISTINCT f.source, ',') AS source
  FROM odd o, prompt_cache.fetch_many('echo', ARRAY[o.key]) f;
SELECT count(*), bool_and(f.value = '<' || o.key || '>') AS exact, string_agg(DISTINCT f.source, ',') AS source FROM odd o, prompt_cache.fetch_many('echo', ARRAY[o.key]) f;
SELECT bool_and(prompt_cache.put('plain', key, n::text, tags => CASE WHEN key = '' THEN '{}' ELSE ARRAY[key] END)) AS put FROM odd;
SELECT count(*) FILTER (WHERE g.value = n::text) FROM odd, prompt_cache.get('plain', key) g;
-- Each tag is one value's, whatever it looks like.
SELECT prompt_cache.forget_tag('%'), prompt_cache.forget_tag('🙂'), prompt_cache.forget('plain', '');
SELECT string_agg(key, ' ' ORDER BY n) FILTER (WHERE NOT g.found) AS gone FROM odd, prompt_cache.get('plain', key) g;
SELECT prompt_cache.forget_prefix('plain', 'k') AS begin_with_k, prompt_cache.forget_prefix('plain', '') AS all_the_others;
SELECT count(*) FROM odd, prompt_cache.get('plain', key) g WHERE g.found;

-- An error is the builder's, each time; it is not remembered, and nobody waits for it.
CREATE TABLE gate (open boolean);
INSERT INTO gate VALUES (false);
CREATE FUNCTION gated(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT (SELECT open FROM gate) THEN RAISE EXCEPTION 'no % today', key USING ERRCODE = 'PC042', DETAIL = 'detail', HINT = 'hint'; END IF;
    RETURN 1 / length(key);
END
$$;
SELECT prompt_cache.create_namespace('gated', 'gated(text)'), prompt_cache.watch('gate', 'gated');
SELECT prompt_cache.fetch('gated', 'bread');
SELECT prompt_cache.fetch('gated', 'bread');
\set VERBOSITY sqlstate
SELECT prompt_cache.fetch('gated', 'bread');
SELECT prompt_cache.fetch_many('gated', '{a,b}');
UPDATE gate SET open = true;
SELECT prompt_cache.fetch('gated', 'a'), source FROM prompt_cache.fetch_many('gated', '{a}');
SELECT prompt_cache.fetch('gated', '');
SELECT prompt_cache.fetch_many('gated', ARRAY['a', '']);
\set VERBOSITY default
SELECT count(*) AS stored, count(*) FILTER (WHERE key = '') AS of_the_error FROM prompt_cache.entries WHERE namespace = 'gated';
SELECT prompt_cache.drop_namespace(n) FROM unnest('{echo,plain,gated}'::text[]) n;
DROP FUNCTION echo, gated;
DROP TABLE odd, gate;

-- Other encodings
SELECT current_database() AS home \gset
CREATE DATABASE regress_pc_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE regress_pc_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
\c regress_pc_latin1
SET client_encoding = 'UTF8';
CREATE EXTENSION prompt_cache;
CREATE TABLE names (key text PRIMARY KEY, v text);
INSERT INTO names SELECT chr(c), 'v' || c FROM generate_series(1, 255) c;
INSERT INTO names VALUES ('jürgen', 'Größe'), (repeat('ß', 1024), 'long');
CREATE FUNCTION name_of(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT v FROM names n WHERE n.key = $1 $$;
SELECT prompt_cache.create_namespace('größe', 'name_of(text)'), prompt_cache.watch('names', 'größe', 'key');
SELECT f.source, count(*), bool_and(f.value = n.v) AS exact
  FROM prompt_cache.fetch_many('größe', ARRAY(SELECT key FROM names UNION ALL SELECT key FROM names)) f JOIN names n USING (key) GROUP BY 1 ORDER BY 1;
SELECT prompt_cache.fetch('größe', 'jürgen'), prompt_cache.fetch('größe', 'jurgen') IS NULL AS another;
UPDATE names SET v = 'où' WHERE key = 'jürgen';
SELECT prompt_cache.fetch('größe', 'jürgen'), prompt_cache.put('größe', 'é', prompt_cache.rebuild('größe', 'é'), tags => '{naïf}'), prompt_cache.fetch('größe', chr(255));
SELECT value FROM prompt_cache.get('größe', 'é');
SELECT prompt_cache.forget_tag('naïf');
SELECT found FROM prompt_cache.get('größe', 'é');
SELECT prompt_cache.fetch('größe', 'юрген');
SELECT prompt_cache.fetch('größe', repeat('ß', 1025));

\c regress_pc_ascii
CREATE EXTENSION prompt_cache;
-- Bytes that are text in no encoding at once.
CREATE TABLE names (key text PRIMARY KEY, v text);
INSERT INTO names VALUES (E'k\xff', E'\xff\xfe\x80'), ('ünï', 'utf8'), (E'\xc3', 'half'), (E'\xc3\xbc', 'whole');
CREATE FUNCTION name_of(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT v FROM names n WHERE n.key = $1 $$;
SELECT prompt_cache.create_namespace('names', 'name_of(text)'), prompt_cache.watch('names', 'names', 'key');
SELECT f.source, count(*), bool_and(f.value = n.v) AS exact
  FROM prompt_cache.fetch_many('names', ARRAY(SELECT key FROM names UNION ALL SELECT key FROM names)) f JOIN names n USING (key) GROUP BY 1 ORDER BY 1;
UPDATE names SET v = 'other half' WHERE key = E'\xc3';
SELECT f.source, f.value FROM prompt_cache.fetch_many('names', ARRAY[E'\xc3', E'\xc3\xbc']) f;
-- A prefix is bytes: half a character is one.
SELECT prompt_cache.forget_prefix('names', E'\xc3');
SELECT f.source, encode(f.value::bytea, 'escape') AS value FROM prompt_cache.fetch_many('names', ARRAY[E'\xc3', E'\xc3\xbc', E'k']) f;
\c :home
DROP DATABASE regress_pc_latin1;
DROP DATABASE regress_pc_ascii;
