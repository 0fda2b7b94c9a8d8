-- Bad input to attach() and calls before it: SQLSTATE, message and hint; nothing is left half done.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA attach_errors;
SET search_path = attach_errors;
\set VERBOSITY terse

CREATE FUNCTION report(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
    detail text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
    RETURN format(E'%s %s\n  %s', SQLSTATE, SQLERRM, hint) || CASE WHEN detail <> '' THEN E'\n  ' || detail ELSE '' END;
END
$$;
CREATE FUNCTION try(arguments text) RETURNS text LANGUAGE sql AS $$
    SELECT report('SELECT prompt_cache.attach(' || arguments || ')')
$$;
-- What attach() makes.
CREATE VIEW made AS SELECT (SELECT count(*) FROM prompt_cache.attachments) AS attachments,
    (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'prompt\_cache\_%' AND tgrelid::regclass::text !~ '^prompt_cache') AS triggers;
\t
-- Before attach(): the same error from every call that needs it. detach() has nothing to do.
SELECT DISTINCT report(format('SELECT * FROM prompt_cache.%s', call))
  FROM unnest('{get_or_build(1),get_or_build_key(''1''),prompt(1),prompt_key(''1''),build(1),build_key(''1''),
                invalidate_user(1),invalidate_user_key(''1''),invalidate_tenant(1),invalidate_tenant_key(''1''),flush()}'::text[]) call;
SELECT prompt_cache.detach(), prompt_cache.clear(), prompt_cache.application_prompt() IS NULL, prompt_cache.health()->>'status';

-- No such table.
SELECT try('');
SELECT try('users => 1::regclass');
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);
CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
SELECT try('''nowhere''');
SELECT try('NULL');

-- No such column; NULL for a column.
SELECT try('user_key => ''nope''');
SELECT try('user_tenant => ''nope''');
SELECT try('user_prompt => ''nope''');
SELECT try('tenant_key => ''nope''');
SELECT try('tenant_prompt => ''nope''');
SELECT try('tenant_prompt => ''ctid''');
SELECT try('user_prompt => NULL');
SELECT try('user_tenant => NULL');
SELECT try('tenant_prompt => NULL');
ALTER TABLE users ADD gone text;
ALTER TABLE users DROP gone;
SELECT try('user_prompt => ''........pg.dropped.4........''');

-- Keys: none, composite, not unique, of a wrong type.
CREATE TABLE t (id bigint, part int, tenant_id bigint, system_prompt text);
SELECT try('''t''');
SELECT try('''t'', user_key => ''id''');
CREATE UNIQUE INDEX t_partial ON t (id) WHERE part = 1;
CREATE UNIQUE INDEX t_expression ON t ((id + 1));
ALTER TABLE t ADD CONSTRAINT t_deferrable UNIQUE (id) DEFERRABLE;
SELECT try('''t'', user_key => ''id''');
ALTER TABLE t ADD PRIMARY KEY (id, part);
SELECT try('''t''');
SELECT try('tenants => ''t''');
CREATE UNIQUE INDEX t_id ON t (id);
SELECT * FROM made;
SELECT try('''t'', user_key => ''id''');
SELECT * FROM made;
SELECT prompt_cache.detach();

CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN user_number AS bigint;
CREATE FUNCTION try_type(type text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    DROP TABLE IF EXISTS typed;
    EXECUTE format('CREATE TABLE typed (id %s PRIMARY KEY, tenant_id bigint, system_prompt text)', type);
    RETURN try('''typed''');
END
$$;
SELECT try_type('numeric');
SELECT try_type('char(10)');
SELECT try_type('text COLLATE anycase');
SELECT try_type('mood');
SELECT try_type('oid');
SELECT try_type('"char"');
SELECT try_type('name');
SELECT try_type('user_number');

-- A column that holds no prompt; a tenant column that cannot name a tenant.
ALTER TABLE users ADD number int, ADD bytes bytea, ADD list text[], ADD flag boolean, ADD stamp timestamptz;
SELECT try(format('user_prompt => %L', c)) FROM unnest('{number,bytes,list,flag}'::text[]) c;
SELECT try(format('user_tenant => %L', c)) FROM unnest('{list,bytes,stamp,flag}'::text[]) c;

-- What is not a table of the application's own.
CREATE VIEW v AS SELECT * FROM users;
CREATE MATERIALIZED VIEW mv AS SELECT * FROM users;
CREATE FOREIGN DATA WRAPPER regress_pc_fdw;
CREATE SERVER regress_pc_server FOREIGN DATA WRAPPER regress_pc_fdw;
CREATE FOREIGN TABLE ft (user_id bigint, tenant_id bigint, system_prompt text) SERVER regress_pc_server;
CREATE TEMP TABLE tmp (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);
CREATE SEQUENCE sq;
CREATE TYPE composite AS (user_id bigint, tenant_id bigint, system_prompt text);
SELECT try(quote_literal(s)) FROM unnest('{v,mv,ft,tmp,sq,composite,pg_catalog.pg_authid,information_schema.sql_features,prompt_cache.application,users_pkey}'::text[]) s;
SELECT try(format('tenants => %L, tenant_key => ''user_id''', s)) FROM unnest('{v,ft,tmp}'::text[]) s;
CREATE TABLE parts (user_id bigint, tenant_id bigint, system_prompt text) PARTITION BY LIST (user_id);
CREATE FOREIGN TABLE part_ft PARTITION OF parts DEFAULT SERVER regress_pc_server;
SELECT try('''parts'', user_key => ''user_id''');

-- Not the owner; row-level security that binds the owner.
CREATE ROLE regress_pc_stranger;
CREATE ROLE regress_pc_owner;
GRANT USAGE ON SCHEMA prompt_cache, attach_errors TO regress_pc_stranger, regress_pc_owner;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA prompt_cache TO regress_pc_stranger, regress_pc_owner;
GRANT ALL ON users, tenants TO regress_pc_stranger;
ALTER TABLE users OWNER TO regress_pc_owner;
ALTER TABLE tenants OWNER TO regress_pc_stranger;
SET ROLE regress_pc_stranger;
SELECT try('');
SET ROLE regress_pc_owner;
SELECT try('');
RESET ROLE;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
SELECT try('');
ALTER TABLE users NO FORCE ROW LEVEL SECURITY;
SELECT * FROM made;
SELECT try('tenants => NULL');
SET ROLE regress_pc_stranger;
SELECT report('SELECT prompt_cache.detach()');
RESET ROLE;
-- An attach() that fails leaves the one before as it was.
SELECT try('user_prompt => ''nope''');
SELECT * FROM made;
SELECT prompt_cache.detach();

SELECT * FROM made;
\t
DROP SCHEMA attach_errors CASCADE;
DROP SERVER regress_pc_server CASCADE;
DROP FOREIGN DATA WRAPPER regress_pc_fdw;
DROP OWNED BY regress_pc_stranger, regress_pc_owner;
DROP ROLE regress_pc_stranger, regress_pc_owner;
