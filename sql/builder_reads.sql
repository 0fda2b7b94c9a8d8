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

