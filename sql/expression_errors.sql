-- What cannot be a prompt's expression: SQLSTATE, message, detail and hint; nothing is left half done.
SET client_min_messages = notice;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA expression_errors;
SET search_path = expression_errors;
\set VERBOSITY terse
CREATE TYPE point3 AS (x int, y int, z int);
CREATE DOMAIN phrase AS text CHECK (VALUE <> 'never');
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, name text, "Nick Name" text, settings jsonb, born date, seen timestamptz, spot point3, words text[], motto phrase);
CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE FUNCTION dice() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT 'six' $$;
CREATE FUNCTION of_default(a text, b text DEFAULT clock_timestamp()::text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN a || b; END $$;
CREATE FUNCTION reads_tables(a text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT a || count(*) FROM expression_errors.tenants $$;
CREATE FUNCTION many(a text) RETURNS SETOF text LANGUAGE sql IMMUTABLE AS $$ SELECT a $$;
CREATE FUNCTION try(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
    detail text;
BEGIN
    PERFORM prompt_cache.attach(user_prompt => expression);
    RETURN 'stored: ' || (SELECT user_prompt FROM prompt_cache.attachments);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
    RETURN format(E'%s %s\n  %s', SQLSTATE, SQLERRM, hint) || CASE WHEN detail <> '' THEN E'\n  ' || detail ELSE '' END;
END
$$;
\t
-- More than a row.
SELECT try('(SELECT system_prompt FROM tenants LIMIT 1)');
SELECT try('CASE WHEN EXISTS (SELECT 1) THEN name END');
SELECT try('max(name)');
SELECT try('row_number() OVER () || name');
SELECT try('unnest(words)');
SELECT try('many(name) || name');
-- Not one expression.
SELECT try('name, born::text');
SELECT try('name FROM users');
SELECT try('name AS prompt');
SELECT try('DISTINCT name');
SELECT try('*');
SELECT try('users.*');
SELECT try('name; DROP TABLE users');
SELECT try('name ||');
SELECT try(' ');
SELECT try('');
-- Unknown names and parameters.
SELECT try('nope');
SELECT try('name || nope');
SELECT try('nope(name)');
SELECT try('other.name || name');
SELECT try('name || $1');
SELECT try('null');
-- The whole row, system columns.
SELECT try('users::text');
SELECT try('to_jsonb(users)');
SELECT try('ctid::text');
SELECT try('tableoid::text || name');
-- What changes without the row.
SELECT try('name || random()');
SELECT try('dice() || name');
SELECT try('of_default(name)');
SELECT try('name || now()');
SELECT try('name || current_user');
SELECT try('CASE WHEN born < current_date THEN name END');
SELECT try('current_setting(''server_version'') || name');
SELECT try('name::regclass::text');
SELECT try('nextval(''x'') || name');
SELECT try('CASE WHEN age(seen) > ''1 day'' THEN name END');
-- Not text.
SELECT try('length(name)');
SELECT try('(born)');
SELECT try('words || words');
SELECT try('("spot")');
-- Nothing is left of all this; the wiring there is stays.
SELECT count(*) FROM prompt_cache.attachments;
SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('users'::regclass, 'tenants'::regclass);
-- What can be one, and how it is stored.
SELECT try('name');
SELECT try('NAME');
SELECT try('users."Nick Name"');
SELECT try('Nick Name');
SELECT try('name -- the name');
SELECT try('upper(name) /* and */ || "Nick Name" || born');
SELECT try('settings->''ui''->>''system''');
SELECT try('settings #> ''{a,b}''');
SELECT try('(spot).x::text || (spot).y');
SELECT try('array_to_string(words, E''\n'')');
SELECT try('coalesce(motto, ''it''''s \ fine'')');
SELECT try('CASE WHEN name IN (''a'', ''b'') THEN ''x'' ELSE name END');
SELECT try('seen::text || to_char(born, ''YYYY'')');
SELECT try('concat_ws(E''\n'', name, settings->>''a'', words[1])');
SELECT try('reads_tables(name)');
SELECT try('null::text');
SELECT try('''always the same''');
SELECT sound, problem FROM prompt_cache.attachments;
-- The other layer.
SELECT prompt_cache.attach(user_prompt => 'name', tenant_prompt => 'system_prompt || random()');
SELECT prompt_cache.attach(user_prompt => 'name', tenant_prompt => 'nullif(system_prompt, ''-'')');
SELECT user_prompt, tenant_prompt FROM prompt_cache.attachments;
\set VERBOSITY default
SELECT prompt_cache.attach(user_prompt => 'name || settings->>nope');
SET client_min_messages = warning;
DROP SCHEMA expression_errors CASCADE;
