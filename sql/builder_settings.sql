-- What a builder sets stays in the builder: its owner must not shape the session of those who read.
CREATE FUNCTION look(space text, k text, OUT source text, OUT exact boolean) LANGUAGE sql STABLE AS $$
    SELECT f.source, f.value IS NOT DISTINCT FROM prompt_cache.rebuild(space, k) FROM prompt_cache.fetch_many(space, ARRAY[k]) f
$$;
CREATE FUNCTION setting(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws(' ', set_config('search_path', 'evil', false), set_config('work_mem', '77MB', false), set_config('row_security', 'on', false), set_config('mine.own', 'theirs', false))
$$;
SELECT prompt_cache.create_namespace('setting', 'setting(text)');
SET work_mem = '4MB';
SET mine.own = 'mine';
SELECT look('setting', 'a'), prompt_cache.fetch('setting', 'a');
SELECT current_setting('search_path') AS search_path, current_setting('work_mem') AS work_mem, current_setting('mine.own') AS own;
BEGIN;
SET LOCAL work_mem = '5MB';
SELECT prompt_cache.rebuild('setting', 'a');
SELECT current_setting('work_mem') AS work_mem;
COMMIT;
SHOW work_mem;
RESET ALL;
-- What a session sets does not get in.
CREATE FUNCTION shaped(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    dynamic text;
BEGIN
    EXECUTE 'SELECT ''a\nb'' || coalesce(quote_ident(''x''), '''') || (NULL = NULL)::text IS NULL' INTO dynamic;
    RETURN concat_ws(' ', quote_ident('x'), to_tsvector('the houses'), '{NULL}'::text[], dynamic, current_setting('TimeZone'), array_length(regexp_split_to_array('a\nb', ''), 1));
END
$$;
SELECT prompt_cache.create_namespace('shaped', 'shaped(text)');
SELECT prompt_cache.rebuild('shaped', 'k') AS plain;
SELECT prompt_cache.rebuild('shaped', 'k') AS plain \gset
\c -
SET quote_all_identifiers = on; SET default_text_search_config = 'pg_catalog.english'; SET array_nulls = off; SET standard_conforming_strings = off;
SET transform_null_equals = on; SET backslash_quote = off; SET escape_string_warning = off; SET TimeZone = 'Asia/Tokyo';
SELECT prompt_cache.rebuild('shaped', 'k') = :'plain' AS same;
RESET ALL;
-- The same of what an expression of a watch calls.
CREATE TABLE rows (k text, v text);
CREATE FUNCTION key_of(k text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT k || left(set_config('search_path', 'evil', false), 0) $$;
CREATE FUNCTION row_of(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT v FROM rows WHERE k = key $$;
SELECT prompt_cache.create_namespace('rows', 'row_of(text)');
SELECT prompt_cache.watch('rows', 'rows', 'key_of(k)');
INSERT INTO rows VALUES ('a', 'A');
SHOW search_path;
SELECT count(prompt_cache.drop_namespace(namespace)) FROM prompt_cache.namespaces;
DROP TABLE rows;
DROP FUNCTION setting, key_of, row_of, look;
