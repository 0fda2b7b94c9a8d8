-- Who may do what, and that no caller can change what others get.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA rights;
SET search_path = rights;
\set VERBOSITY terse

CREATE ROLE regress_pc_owner;
CREATE ROLE regress_pc_reader;
CREATE ROLE regress_pc_member IN ROLE regress_pc_reader;
CREATE ROLE regress_pc_monitor IN ROLE pg_monitor;
CREATE ROLE regress_pc_nobody;
GRANT USAGE, CREATE ON SCHEMA rights TO PUBLIC;

SET ROLE regress_pc_owner;
CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text, who name);
INSERT INTO tenants VALUES (1, 'T1');
INSERT INTO users VALUES (42, 1, 'u42', 'regress_pc_reader'), (43, 1, 'u43', 'regress_pc_nobody');
RESET ROLE;
SELECT prompt_cache.attach();

-- Nothing is open to everybody but what a trigger calls, which nothing else can.
SELECT p.oid::regprocedure FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
 WHERE p.pronamespace = 'prompt_cache'::regnamespace AND a.grantee = 0;
SELECT prompt_cache._source_changed();
SELECT c.oid::regclass FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
 WHERE c.relnamespace = 'prompt_cache'::regnamespace AND c.relkind IN ('r', 'v', 'S') AND a.grantee = 0;
SELECT has_schema_privilege('regress_pc_nobody', 'prompt_cache', 'USAGE') AS usage;
SET ROLE regress_pc_reader;
SELECT prompt_cache.prompt(42);
-- The owner of the tables needs no right in the extension's schema to write them.
SET ROLE regress_pc_owner;
UPDATE users SET system_prompt = 'u42 by owner' WHERE user_id = 42;
SELECT prompt_cache.prompt(42);
RESET ROLE;

-- allow(): a reader without any right on the tables.
SELECT prompt_cache.allow('regress_pc_reader');
CREATE FUNCTION may(role text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(p.proname, ', ' ORDER BY p.proname) FROM pg_proc p
     WHERE p.pronamespace = 'prompt_cache'::regnamespace AND has_function_privilege(role, p.oid, 'EXECUTE')
       AND p.prorettype <> 'trigger'::regtype
$$;
CREATE FUNCTION may_read(role text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c WHERE c.relnamespace = 'prompt_cache'::regnamespace
       AND c.relkind IN ('r', 'v') AND has_table_privilege(role, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
$$;
SELECT r, may(r), may_read(r) FROM unnest('{regress_pc_reader,regress_pc_member,regress_pc_nobody,regress_pc_owner}'::text[]) r;
SET ROLE regress_pc_member;
SELECT right(prompt_cache.prompt(42), 12), source FROM prompt_cache.get_or_build_key('42');
SELECT source FROM prompt_cache.get_or_build(42);
SELECT system_prompt FROM users;
SELECT prompt_cache.build(42);
SELECT prompt_cache.clear();
SELECT prompt_cache.set_application_prompt('x');
SELECT count(*) FROM prompt_cache.user_prompt_cache;
SELECT count(*) FROM prompt_cache.tag_nonce;
SELECT count(*) FROM prompt_cache.entries;
SELECT prompt_cache.attach();
SELECT prompt_cache.allow('regress_pc_nobody');
RESET ROLE;
SELECT prompt_cache.allow('regress_pc_nobody', 'prompt'), prompt_cache.deny('regress_pc_nobody', 'prompt');
SELECT prompt_cache.allow('regress_pc_nobody', 'no such namespace');
SELECT may('regress_pc_nobody') IS NULL AS nothing;

-- Monitoring may look, not read.
SELECT may('regress_pc_monitor'), may_read('regress_pc_monitor');
SET ROLE regress_pc_monitor;
SELECT namespace, entries > 0 AS entries FROM prompt_cache.stats;
SELECT count(*) > 0 AS entries FROM prompt_cache.entries;
SELECT sound FROM prompt_cache.attachments;
SELECT prompt_cache.health()->>'status' AS status;
SELECT prompt_cache.prompt(42);
RESET ROLE;

-- Row-level security: the value is the same for every caller, and it is the rows', not the caller's view of them.
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON users USING (who = current_user);
GRANT SELECT, UPDATE ON users TO regress_pc_reader;
SET ROLE regress_pc_reader;
SELECT count(*) AS rows_seen FROM users;
SELECT id, right(g.prompt, 3) AS ends, source FROM generate_series(42, 43) id, prompt_cache.get_or_build(id) g ORDER BY id;
UPDATE users SET system_prompt = 'u42 by reader';
SELECT id, right(g.prompt, 3) AS ends, source FROM generate_series(42, 43) id, prompt_cache.get_or_build(id) g ORDER BY id;
SET row_security = off;
SELECT right(prompt_cache.prompt(43), 3) AS ends;
RESET row_security;
RESET ROLE;
SELECT id, prompt_cache.prompt(id) = prompt_cache.build(id) AS exact FROM generate_series(42, 43) id;
-- Forced on the owner later: an error rather than another value.
ALTER TABLE users FORCE ROW LEVEL SECURITY;
SELECT prompt_cache.prompt(42);
ALTER TABLE users NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;

-- What a caller puts into the search path is not called, and not into the value; nor are the caller's settings.
SET ROLE regress_pc_reader;
CREATE FUNCTION rights.trap(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'trap: ='; RETURN true; END $$;
CREATE OPERATOR rights.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = rights.trap);
CREATE FUNCTION rights.text(bigint) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'trap: text'; RETURN 'trap'; END $$;
CREATE FUNCTION rights.format(text, VARIADIC anyarray) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'trap: format'; RETURN 'SELECT 1'; END $$;
CREATE FUNCTION rights.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'trap: now'; RETURN 'epoch'; END $$;
CREATE TABLE rights.pg_trigger (tgname text);
CREATE TABLE rights.pg_class (oid oid, relname text);
CREATE TEMP TABLE pg_attribute (attname text);
RESET ROLE;
SET search_path = rights, pg_catalog;
SELECT 1::bigint = 2::bigint AS the_trap_works;
SELECT prompt_cache.clear() > 0 AS cleared;
SELECT prompt_cache.prompt(42) = prompt_cache.build(42) AS exact;
UPDATE users SET system_prompt = 'u42 again' WHERE user_id OPERATOR(pg_catalog.=) 42;
SELECT prompt_cache.attach(), prompt_cache.set_application_prompt('app'), prompt_cache.application_prompt() IS NULL AS later;
SELECT pg_catalog.right(prompt_cache.prompt(42), 9) AS ends, prompt_cache.flush() AS written, prompt_cache.health()->>'status' AS status;
SELECT prompt_cache.detach();
SET search_path = rights;
DROP OPERATOR rights.= (bigint, bigint);
DROP FUNCTION rights.text(bigint);

-- deny() takes back what allow() gave, and nothing else.
SELECT prompt_cache.attach(), prompt_cache.deny('regress_pc_reader');
SELECT may('regress_pc_reader') IS NULL AS nothing;
SET ROLE regress_pc_reader;
SELECT prompt_cache.prompt(42);
RESET ROLE;
DROP SCHEMA rights CASCADE;
DROP OWNED BY regress_pc_owner, regress_pc_reader, regress_pc_member, regress_pc_monitor, regress_pc_nobody;
DROP ROLE regress_pc_owner, regress_pc_member, regress_pc_reader, regress_pc_monitor, regress_pc_nobody;
