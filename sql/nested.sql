-- What a builder learns of the extension's own functions: the value hangs on all that they hang on, whichever it calls.
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id int, system_prompt text);
CREATE TABLE tenants (id int PRIMARY KEY, system_prompt text);
INSERT INTO tenants VALUES (1, 'T');
INSERT INTO users VALUES (42, 1, 'U1');
SELECT prompt_cache.attach(), prompt_cache.set_application_prompt(NULL);
CREATE FUNCTION look(space text, k text, OUT source text, OUT value text, OUT exact boolean) LANGUAGE sql STABLE AS $$
    SELECT f.source, f.value, f.value IS NOT DISTINCT FROM prompt_cache.rebuild(space, k) FROM prompt_cache.fetch_many(space, ARRAY[k]) f
$$;
CREATE FUNCTION by_build(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT right(prompt_cache.build(key::bigint), 2) $$;
CREATE FUNCTION by_build_key(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT right(prompt_cache.build_key(key), 2) $$;
CREATE FUNCTION by_row(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT right(prompt, 2) FROM prompt_cache.get_or_build_key(key) $$;
CREATE FUNCTION by_tags(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT right(prompt, 2) FROM prompt_cache.get_with_tags(key) $$;
CREATE FUNCTION by_fetch(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT prompt_cache.fetch('by_row', key) $$;
CREATE FUNCTION by_rebuild(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT prompt_cache.rebuild('by_row', key) $$;
CREATE FUNCTION by_many(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT string_agg(value, ',') FROM prompt_cache.fetch_many('by_row', ARRAY[key, '43']) $$;
CREATE TABLE spaces AS SELECT unnest('{by_build,by_build_key,by_row,by_tags,by_fetch,by_rebuild,by_many}'::text[]) AS n;
SELECT count(prompt_cache.create_namespace(n, (n || '(text)')::regprocedure)) FROM spaces;
SELECT n, look(n, '42') FROM spaces;
SELECT n, look(n, '42') FROM spaces;
UPDATE users SET system_prompt = 'U2';
SELECT n, look(n, '42') FROM spaces;
UPDATE users SET tenant_id = NULL, system_prompt = 'U3';
SELECT n, look(n, '42') FROM spaces;
INSERT INTO users VALUES (43, 1, NULL);
SELECT n, look(n, '42') FROM spaces WHERE n = 'by_many';
UPDATE tenants SET system_prompt = 'T2';
SELECT n, look(n, '42') FROM spaces WHERE n = 'by_many';
SELECT n, (look(n, '42')).source FROM spaces;
SELECT count(prompt_cache.drop_namespace(n)) FROM spaces;

-- What get() finds is there by chance: nothing made of it is kept.
CREATE FUNCTION by_get(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT coalesce(value, 'none') FROM prompt_cache.get('put', key) $$;
SELECT prompt_cache.create_namespace('put'), prompt_cache.create_namespace('by_get', 'by_get(text)');
SELECT prompt_cache.put('put', 'k', 'V');
SELECT look('by_get', 'k'), look('by_get', 'k'), look('by_get', 'none');
SELECT count(prompt_cache.drop_namespace(namespace)) FROM prompt_cache.namespaces;

-- A sliding value ends with what it was made from, however often it is asked for.
CREATE FUNCTION soon(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT key $$;
CREATE FUNCTION longer(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT prompt_cache.fetch('soon', key) $$;
SELECT prompt_cache.create_namespace('soon', 'soon(text)', '500 ms'), prompt_cache.create_namespace('longer', 'longer(text)', '1 s', sliding => true);
SELECT look('longer', 'k'), look('longer', 'k');
SELECT pg_sleep(0.25);
SELECT (look('longer', 'k')).source;
SELECT pg_sleep(0.35);
SELECT (look('longer', 'k')).source;
SELECT prompt_cache.drop_namespace('longer'), prompt_cache.drop_namespace('soon');

-- An unlogged partition comes back empty after a crash, when stamps prove nothing: not for standbys, nor for Redis.
CREATE TABLE parts (k text, v text) PARTITION BY LIST (k);
CREATE UNLOGGED TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
SELECT prompt_cache.create_namespace('parts'), prompt_cache.watch('parts', 'parts');
SELECT durable FROM prompt_cache._namespace('parts'::text);
DROP TABLE parts_a;
SELECT durable FROM prompt_cache._namespace('parts'::text);
SELECT prompt_cache.drop_namespace('parts');

-- A name in another encoding may be longer than one may be.
\set VERBOSITY terse
INSERT INTO prompt_cache.namespace (namespace, wiring, ttl, max_entries, sliding, redis) VALUES (repeat('n', 64), 1, '0', 0, false, false);
SELECT prompt_cache.detach();
DROP TABLE parts;
DROP TABLE users, tenants, spaces;
DROP FUNCTION look, by_build, by_build_key, by_row, by_tags, by_fetch, by_rebuild, by_many, by_get, soon, longer;
