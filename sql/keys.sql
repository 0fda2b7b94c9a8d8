-- Key types, names, partitions, ids of every kind.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA keys;
SET search_path = keys;
\set VERBOSITY terse

-- One chat schema a combination of key types: made, attached, read twice, changed, compared with SQL.
CREATE PROCEDURE try(user_type text, tenant_type text, reference_type text, user_ids text[], tenant_ids text[]) LANGUAGE plpgsql AS $$
DECLARE
    wrong     bigint;
    memory    bigint;
BEGIN
    EXECUTE format('CREATE TABLE tenants (id %s PRIMARY KEY, system_prompt text)', tenant_type);
    EXECUTE format('CREATE TABLE users (user_id %s PRIMARY KEY, tenant_id %s, system_prompt text)', user_type, reference_type);
    EXECUTE format('INSERT INTO tenants SELECT k::%s, ''of '' || k FROM unnest($1) k', tenant_type) USING tenant_ids;
    EXECUTE format('INSERT INTO users SELECT k::%s, $2[1 + n %% cardinality($2)]::%s, ''user '' || k FROM unnest($1) WITH ORDINALITY k(k, n)',
                   user_type, reference_type) USING user_ids, tenant_ids;
    PERFORM prompt_cache.attach('keys.users', 'keys.tenants');
    COMMIT;
    PERFORM prompt_cache.prompt_key(k) FROM unnest(user_ids) k;
    FOR i IN 1..3 LOOP
        SELECT count(*) FILTER (WHERE g.prompt IS DISTINCT FROM format(E'--- Tenant Guidelines ---\n%s\n\n--- User Preferences ---\n%s', t.system_prompt, u.system_prompt)
                                   OR prompt_cache.build_key(u.user_id::text) IS DISTINCT FROM g.prompt),
               count(*) FILTER (WHERE g.source = 'memory') INTO wrong, memory
          FROM users u LEFT JOIN tenants t ON t.id::text = u.tenant_id::text, prompt_cache.get_or_build_key(u.user_id::text) g;
        RAISE NOTICE '%, % -> %: step %: wrong %, memory %', user_type, reference_type, tenant_type, i, wrong, memory;
        UPDATE users SET system_prompt = system_prompt || '!' WHERE i = 1;
        UPDATE tenants SET system_prompt = system_prompt || '!' WHERE i = 2;
        COMMIT;
    END LOOP;
    RAISE NOTICE 'flush %', prompt_cache.flush();
    PERFORM prompt_cache.detach();
    DROP TABLE users, tenants;
END
$$;
SET client_min_messages = notice;
CALL try('bigint', 'bigint', 'bigint', '{1,0,-1,9223372036854775807,-9223372036854775808}', '{1,-9223372036854775808}');
CALL try('int', 'smallint', 'bigint', '{1,0,-1,2147483647,-2147483648}', '{-32768,32767}');
CALL try('smallint', 'int', 'smallint', '{1,0,-32768,32767}', '{7,-7}');
CALL try('uuid', 'uuid', 'uuid', '{00000000-0000-0000-0000-000000000000,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}');
CALL try('text', 'text', 'varchar(40)', ARRAY['a', 'A', ' a', 'a ', '', '42', '042', 'é', E'e\u0301', '🦊', E'two\nlines', repeat('k', 900)], '{t,T,t 1}');
CALL try('varchar(20)', 'uuid', 'text', '{me@example.org,"x,y","quo\"te",%s}', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}');
CALL try('text', 'bigint', 'text', '{u,v}', '{12,-3}');
CALL try('bigint', 'text', 'int', '{1,2}', '{12,-3}');
SET client_min_messages = warning;

-- Ids in other spellings are the same user; ids that cannot be one are errors, not absences.
CREATE TABLE tenants (id uuid PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id uuid PRIMARY KEY, tenant_id uuid, system_prompt text);
INSERT INTO users VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', NULL, 'one');
SELECT prompt_cache.attach();
SELECT prompt_cache.prompt_key('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11') LIKE '%one' AS found;
SELECT source FROM prompt_cache.get_or_build_key('{A0EEBC999C0B4EF8BB6D6BB9BD380A11}');
SELECT prompt_cache.prompt_key('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1');
SELECT prompt_cache.prompt_key('');
SELECT prompt_cache.prompt(1);
SELECT prompt_cache.build(1);
SELECT prompt_cache.invalidate_user(1);
SELECT prompt_cache.invalidate_tenant_key('x');
SELECT prompt_cache.prompt_key(NULL) IS NULL AS null;
-- Integers, and a reference that is text.
SELECT prompt_cache.detach();
DROP TABLE users, tenants;
CREATE TABLE tenants (id int PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id int PRIMARY KEY, tenant_id text, system_prompt text);
INSERT INTO tenants VALUES (7, 'seven');
INSERT INTO users VALUES (1, ' 007 ', 'one'), (2, 'seven', 'not a number');
SELECT prompt_cache.attach();
SELECT prompt_cache.prompt_key(' 1 ') = prompt_cache.prompt(1) AS same, prompt_cache.prompt_key('+01') LIKE '%seven%one' AS found;
UPDATE tenants SET system_prompt = 'VII' WHERE id = 7;
SELECT prompt_cache.prompt(1) LIKE '%VII%one' AS found;
SELECT prompt_cache.prompt(2);
SELECT prompt_cache.prompt(9223372036854775807) IS NULL AS none, prompt_cache.prompt_key('-2147483649') IS NULL AS none;
SELECT prompt_cache.prompt_key('9223372036854775808');
SELECT prompt_cache.prompt_key('one');
SELECT prompt_cache.prompt_key(repeat('9', 40));
SELECT prompt_cache.detach();
DROP TABLE users, tenants;

-- Names that need quotes: reserved words, CamelCase, dots, quotes, other schemas, other key and column names.
CREATE SCHEMA "Chat App";
CREATE TABLE "Chat App"."group" ("Select" text PRIMARY KEY, "from" json, "where" int UNIQUE);
CREATE TABLE "Chat App"."user" ("the ""Key""" text UNIQUE, id serial PRIMARY KEY, "openAiPrompt" varchar(99), "order" int, "a.b" jsonb);
INSERT INTO "Chat App"."group" VALUES ('g', '{"a": 1}', 5);
INSERT INTO "Chat App"."user" VALUES ('it''s', 1, 'Camel', 5, '{"b": 2}');
SELECT prompt_cache.attach('"Chat App"."user"', '"Chat App"."group"', 'the "Key"', 'order', 'openAiPrompt', 'where', 'from');
SELECT prompt_cache.prompt_key('it''s') = E'--- Tenant Guidelines ---\n{"a": 1}\n\n--- User Preferences ---\nCamel' AS exact, source FROM prompt_cache.get_or_build_key('it''s');
UPDATE "Chat App"."user" SET "openAiPrompt" = 'Hump' WHERE id = 1;
SELECT prompt_cache.prompt_key('it''s') LIKE '%Hump' AS exact;
UPDATE "Chat App"."group" SET "from" = '{"a":1}';
SELECT prompt_cache.prompt_key('it''s') LIKE '%{"a":1}%Hump' AS exact;
SELECT prompt_cache.attach('"Chat App"."user"', '"Chat App"."group"', NULL, 'order', 'a.b', 'where', 'from');
SELECT prompt_cache.prompt(1) LIKE '%{"a":1}%{"b": 2}' AS exact;
ALTER TABLE "Chat App"."user" RENAME TO "User; --";
ALTER SCHEMA "Chat App" RENAME TO "%I";
SELECT prompt_cache.prompt(1) LIKE '%{"a":1}%{"b": 2}' AS exact;
SELECT prompt_cache.prompt(1) = prompt_cache.build(1) AS exact;
SELECT prompt_cache.detach();
SELECT count(*) FILTER (WHERE tgname LIKE 'prompt\_cache%') AS triggers FROM pg_trigger WHERE tgrelid = '"%I"."User; --"'::regclass;
DROP SCHEMA "%I" CASCADE;

-- Without a tenants table.
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);
INSERT INTO users VALUES (1, 1, 'alone');
SELECT prompt_cache.attach(tenants => NULL);
SELECT to_json(prompt_cache.prompt(1));
SELECT prompt_cache.invalidate_tenant(1);
DROP SCHEMA keys CASCADE;
