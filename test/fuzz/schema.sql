-- What the fuzzers meet: the extension with an attached chat schema, and namespaces of every kind. May be run again at any
-- moment, which takes everything away under those who use it. The role "smith" is no superuser, and may do all that a superuser
-- could grant by mistake.
SET client_min_messages = error;
DROP EXTENSION IF EXISTS prompt_cache CASCADE;
DROP SCHEMA IF EXISTS prompt_cache, app CASCADE;
CREATE EXTENSION prompt_cache;
CREATE SCHEMA app;
GRANT ALL ON SCHEMA app TO PUBLIC;
SET search_path = app;

CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text, other int);
CREATE TABLE notes (id uuid PRIMARY KEY, owner text, body jsonb, tags text[]);
CREATE TABLE events (id bigint, kind text, payload text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE events_a PARTITION OF events FOR VALUES IN ('a');
CREATE TABLE events_rest PARTITION OF events DEFAULT;
CREATE TABLE "odd ""table" ("a b" int PRIMARY KEY, "x; --" text, "c" varchar(3) COLLATE "C");
CREATE TABLE many (id bigint PRIMARY KEY, system_prompt text);
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, system_prompt json);
CREATE VIEW seen AS SELECT n.id, n.body, e.payload FROM notes n, events e;
CREATE SEQUENCE counter;
CREATE DOMAIN short AS varchar(10);
CREATE TYPE pair AS (a int, b text);
INSERT INTO tenants SELECT i, 'tenant ' || i FROM generate_series(-1, 5) i;
INSERT INTO users SELECT i, i % 7, nullif(repeat('user ', i), ''), i FROM generate_series(0, 50) i;
INSERT INTO notes SELECT md5(i::text)::uuid, 'o' || i % 3, jsonb_build_object('n', i), ARRAY[i::text, NULL] FROM generate_series(1, 20) i;
INSERT INTO events SELECT i, chr(97 + i % 3), 'p' || i FROM generate_series(1, 30) i;
INSERT INTO many SELECT i, repeat('m', i % 3000) FROM generate_series(1, 500) i;
ANALYZE;

SELECT prompt_cache.attach('users', 'tenants');
SELECT prompt_cache.set_application_prompt('application');
CREATE FUNCTION note(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT body::text FROM app.notes WHERE id = key::uuid $$;
CREATE FUNCTION event(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN (SELECT string_agg(payload, ',' ORDER BY id) FROM app.events WHERE kind = key); END $$;
CREATE FUNCTION nested(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat(prompt_cache.fetch('events', key), prompt_cache.prompt(length(key)), (SELECT value FROM prompt_cache.get('free', key)),
                  prompt_cache.depends_on('tag/' || key))
$$;
CREATE FUNCTION fails(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    BEGIN
        RETURN (1 / length(key))::text || prompt_cache.fetch('fails', key || 'x');
    EXCEPTION WHEN division_by_zero THEN RETURN prompt_cache.fetch('nested', key);
    END;
END $$;
CREATE FUNCTION dynamic(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE result text; BEGIN EXECUTE key INTO result; RETURN result; END $$;
CREATE FUNCTION many(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT system_prompt FROM app.many WHERE id = hashtext(key) & 511 $$;
SELECT prompt_cache.create_namespace('notes', 'note(text)'), prompt_cache.watch('notes', 'notes', 'id', '{body}'),
       prompt_cache.create_namespace('events', 'event(text)', '1 min', 5, true), prompt_cache.watch('events', 'events', 'kind'),
       prompt_cache.create_namespace('nested', 'nested(text)'), prompt_cache.create_namespace('fails', 'fails(text)'),
       prompt_cache.create_namespace('dynamic', 'dynamic(text)'),
       prompt_cache.create_namespace('many', 'many(text)', max_entries => 100), prompt_cache.watch('many', 'many'),
       prompt_cache.create_namespace('free'), prompt_cache.watch('users', 'free', 'lower(system_prompt)'),
       prompt_cache.create_namespace('free too', ttl => '0', redis => false), prompt_cache.watch('"odd ""table"', 'free too', '"a b"', '{c}');

DO $$
BEGIN
    IF to_regrole('smith') IS NULL THEN
        CREATE ROLE smith LOGIN;
        CREATE ROLE backend LOGIN;
    END IF;
END $$;
SELECT prompt_cache.allow('backend');
GRANT ALL ON SCHEMA prompt_cache, public TO smith;
GRANT ALL ON ALL TABLES IN SCHEMA prompt_cache, app TO smith;
GRANT ALL ON ALL SEQUENCES IN SCHEMA prompt_cache, app TO smith;
GRANT ALL ON ALL FUNCTIONS IN SCHEMA prompt_cache, app TO smith;
GRANT pg_monitor TO smith;
SELECT prompt_cache.allow('smith');
-- What is smith's own, so that attach() and its like come further than to the owner's check.
ALTER TABLE notes OWNER TO smith;
ALTER TABLE events OWNER TO smith;
ALTER TABLE many OWNER TO smith;
ALTER FUNCTION note(text) OWNER TO smith;
ALTER FUNCTION many(text) OWNER TO smith;

-- sqlsmith reads pg_proc by an unqualified name. Of three thousand functions it would hardly ever call one of ours: so it is shown
-- ours, those that return sets too, and some of the server's.
CREATE SCHEMA IF NOT EXISTS smith;
CREATE OR REPLACE VIEW smith.pg_proc AS
    SELECT oid, proname, pronamespace, proowner, prolang, provariadic, prokind, proretset AND pronamespace <> 'prompt_cache'::regnamespace AS proretset,
           provolatile, pronargs, prorettype, proargtypes
      FROM pg_catalog.pg_proc
     WHERE pronamespace = 'prompt_cache'::regnamespace OR oid::bigint % 16 = 0;
GRANT USAGE ON SCHEMA smith TO smith;
GRANT SELECT ON smith.pg_proc TO smith;
