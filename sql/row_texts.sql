-- What a row holds is in no text for somebody who may not read the row: not in results, errors, NOTICEs and WARNINGs of explain(),
-- health(), verify(), warm() and flush(). Whatever is a part of a row here begins with SECRET.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS prompt_cache CASCADE;
CREATE EXTENSION prompt_cache;
CREATE SCHEMA row_texts;
SET search_path = row_texts;
CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id text, system_prompt text);
INSERT INTO tenants VALUES (7, 'seven');
INSERT INTO users VALUES (1, '7', 'SECRET 1'), (2, 'SECRET', 'two'), (3, '7', '3'), (4, '7', 'SECRET 4'), (5, '7', 'SECRET 5');
CREATE ROLE regress_pc_monitor IN ROLE pg_monitor;
GRANT EXECUTE ON FUNCTION prompt_cache.verify, prompt_cache.warm, prompt_cache.flush TO regress_pc_monitor;

-- All that an error tells.
CREATE FUNCTION fields_of_error(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    a text; b text; c text; d text; e text; f text; g text; h text; i text; j text;
BEGIN
    EXECUTE command;
    RETURN 'none';
EXCEPTION WHEN OTHERS OR query_canceled THEN
    GET STACKED DIAGNOSTICS a = RETURNED_SQLSTATE, b = MESSAGE_TEXT, c = PG_EXCEPTION_DETAIL, d = PG_EXCEPTION_HINT, e = PG_EXCEPTION_CONTEXT,
        f = SCHEMA_NAME, g = TABLE_NAME, h = COLUMN_NAME, i = CONSTRAINT_NAME, j = PG_DATATYPE_NAME;
    RETURN concat_ws('/', a, b, c, d, f, g, h, i, j) || CASE WHEN e ~ 'SECRET' THEN e ELSE '' END;
END
$$;
GRANT USAGE ON SCHEMA row_texts TO regress_pc_monitor;

\echo an error of a cast holds what was cast
SELECT prompt_cache.attach(user_prompt => '(system_prompt::int)::text');
SET ROLE regress_pc_monitor;
SELECT e FROM generate_series(1, 3) u, prompt_cache.explain('prompt', u::text) e;
RESET ROLE;

\echo a function says what it likes, at any level, and raises any error
CREATE FUNCTION tell(row_text text, code text DEFAULT NULL) RETURNS text LANGUAGE plpgsql STABLE SET client_min_messages = log AS $$
BEGIN
    BEGIN  -- a setting of PL/pgSQL's makes it quiet: no plan shows that the session is read
        ASSERT false;
        RETURN row_text;
    EXCEPTION WHEN assert_failure THEN
        NULL;
    END;
    RAISE LOG '%', row_text;
    RAISE INFO '%', row_text;
    RAISE NOTICE '%', row_text;
    RAISE WARNING '%', row_text;
    IF code IS NOT NULL THEN
        RAISE EXCEPTION '%', row_text USING ERRCODE = code, DETAIL = row_text, HINT = row_text,
            TABLE = row_text, COLUMN = row_text, CONSTRAINT = row_text, DATATYPE = row_text, SCHEMA = row_text;
    END IF;
    RETURN row_text;
END
$$;
UPDATE users SET tenant_id = '7';
SELECT prompt_cache.attach(user_prompt => $$tell(system_prompt, CASE user_id WHEN 1 THEN 'PC001' WHEN 4 THEN '40001' WHEN 5 THEN '57014' END)$$);
SET ROLE regress_pc_monitor;
SET client_min_messages = log;
SELECT e FROM generate_series(1, 4) u, prompt_cache.explain('prompt', u::text) e;
SELECT fields_of_error(format('SELECT * FROM prompt_cache.explain(''prompt'', ''%s'')', u)) FROM generate_series(1, 5) u;
SELECT fields_of_error(format('SELECT prompt_cache.warm(''{%s}'')', u)) FROM generate_series(1, 5) u;
SELECT fields_of_error('SELECT prompt_cache.warm(''{x}'')');
RESET client_min_messages;
RESET ROLE;

\echo what was cached while the function was quiet cannot be rebuilt, saved and warmed now
CREATE FUNCTION of_value(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT row_texts.tell(system_prompt, CASE WHEN key = '1' THEN 'PC002' WHEN key = '5' THEN '57014' END) FROM row_texts.users WHERE user_id = key::bigint
$$;
SELECT prompt_cache.create_namespace('values', 'of_value(text)'), prompt_cache.watch('users', 'values', 'user_id'), prompt_cache.allow('regress_pc_monitor', 'values');
ALTER TABLE prompt_cache.user_prompt_cache ADD CONSTRAINT no_secret CHECK (cached_prompt !~ 'SECRET');
SET plpgsql.check_asserts = off;
SELECT prompt_cache.prompt(1) IS NOT NULL AND prompt_cache.fetch('values', '1') IS NOT NULL AS there;
RESET plpgsql.check_asserts;
SET ROLE regress_pc_monitor;
SET client_min_messages = log;
SELECT e FROM prompt_cache.explain('values', '1') e;
SELECT count(*) AS differ FROM prompt_cache.verify();
SELECT prompt_cache.flush();
RESET ROLE;
ALTER TABLE prompt_cache.user_prompt_cache DROP CONSTRAINT no_secret;
SET plpgsql.check_asserts = off;
SELECT prompt_cache.prompt(1) IS NOT NULL AS there, prompt_cache.flush();
RESET plpgsql.check_asserts;
UPDATE users SET system_prompt = 'SECRET too' WHERE user_id = 1;
SET ROLE regress_pc_monitor;
SELECT prompt_cache.warm();
SELECT jsonb_pretty(prompt_cache.health()) ~ 'SECRET' AS told;
RESET client_min_messages;
RESET ROLE;
SET plpgsql.check_asserts = off;
SELECT prompt_cache.fetch('values', '5');
RESET plpgsql.check_asserts;
SET ROLE regress_pc_monitor;
SELECT fields_of_error('SELECT count(*) FROM prompt_cache.verify()');

\echo nor does the caller stay deaf afterwards
SET client_min_messages = notice;
DO $$ BEGIN RAISE NOTICE 'heard'; END $$;
SELECT 1 / 0;
RESET ROLE;
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;
CREATE EXTENSION prompt_cache;
DROP SCHEMA row_texts CASCADE;
REVOKE ALL ON SCHEMA prompt_cache FROM regress_pc_monitor;
DROP ROLE regress_pc_monitor;
