-- Expressions of PL/pgSQL, which the server evaluates without the executor; functions of extensions.
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE FUNCTION look(space text, k text DEFAULT 'k', OUT source text, OUT gap boolean) LANGUAGE sql STABLE AS $$
    SELECT f.source, EXISTS (SELECT FROM prompt_cache.explain(space, k) e WHERE e ~ 'nothing watches')
      FROM prompt_cache.fetch_many(space, ARRAY[k]) f
$$;
CREATE FUNCTION twice(space text, k text DEFAULT 'k') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN format('%s, %s', look(space, k), look(space, k));
END
$$;
CREATE VIEW reported AS SELECT namespace, unwatched_functions FROM prompt_cache.namespaces WHERE unwatched_functions <> '{}' ORDER BY 1;
CREATE FUNCTION add(name text, body text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE FUNCTION b_%s(key text) RETURNS text STABLE LANGUAGE plpgsql AS %L', name, body);
    RETURN prompt_cache.create_namespace(name, format('b_%s(text)', name)::regprocedure);
END
$$;
SELECT add('returned', 'BEGIN RETURN now(); END');
SELECT add('assigned', 'DECLARE x float8; BEGIN x := random(); RETURN x; END');
SELECT add('declared', 'DECLARE x date DEFAULT CURRENT_DATE; BEGIN RETURN x; END');
SELECT add('condition', $$BEGIN IF has_schema_privilege('public', 'USAGE') THEN RETURN 'y'; END IF; RETURN 'n'; END$$);
SELECT add('text', $$DECLARE c regclass := key::regclass; BEGIN RETURN c; END$$);
SELECT add('caller', 'BEGIN RETURN session_user; END');
CREATE FUNCTION shown() RETURNS text LANGUAGE plpgsql AS $$ DECLARE v text; BEGIN EXECUTE 'SHOW work_mem' INTO v; RETURN v; END $$;
SELECT add('shown', 'BEGIN RETURN shown(); END');
SELECT add('setting', $$BEGIN RETURN current_setting('app.login', true); END$$);
SELECT add('steady', $$BEGIN RETURN concat(key, current_setting('TimeZone'), '2026-01-01'::timestamptz); END$$);
SELECT n, twice(n, 'pg_class') FROM unnest('{returned,assigned,declared,condition,text,caller,shown,setting,steady}'::text[]) n;
SELECT * FROM reported;
-- The plans are there now, for other keys too.
SELECT n, twice(n, 'pg_proc') FROM unnest('{returned,declared,text,caller}'::text[]) n;
SELECT count(prompt_cache.drop_namespace(namespace)) FROM prompt_cache.namespaces;

-- A branch that is taken later, and from then on what it may have read holds for every build of this backend.
SELECT add('branch', $$BEGIN IF key = 'late' THEN RETURN clock_timestamp(); END IF; RETURN key; END$$);
SELECT twice('branch', 'a'), twice('branch', 'late'), twice('branch', 'b');

-- The builder was called before, and its expressions were planned outside of a build.
SELECT add('before', 'BEGIN RETURN pg_backend_pid(); END');
SELECT b_before('k') = pg_backend_pid()::text AS called, b_before('k') = pg_backend_pid()::text AS again;
SELECT twice('before');

-- A function that two builders share, planned by the first, which is called first by the second after its own first build.
CREATE FUNCTION shared_by_two(key text) RETURNS text STABLE LANGUAGE plpgsql AS $$ BEGIN IF key ~ 'dated' THEN RETURN CURRENT_DATE; END IF; RETURN key; END $$;
SELECT add('first', 'BEGIN RETURN shared_by_two(key); END'), add('second', 'BEGIN RETURN shared_by_two(key); END');
SELECT twice('first', 'a'), twice('second', 'a');
SELECT twice('first', 'dated'), twice('second', 'b'), twice('second', 'dated');
-- What it fetches has a gap, so it has one.
SELECT add('outer', $$BEGIN RETURN prompt_cache.fetch('first', 'dated'); END$$);
SELECT twice('outer');
SELECT * FROM reported;
SELECT count(prompt_cache.drop_namespace(namespace)) FROM prompt_cache.namespaces;

-- Another session has plans of its own.
SELECT add('login', 'BEGIN RETURN session_user; END');
SELECT twice('login');
CREATE ROLE regress_caller;
SELECT prompt_cache.allow('regress_caller', 'login');
\c -
SET SESSION AUTHORIZATION regress_caller;
SELECT prompt_cache.fetch('login', 'k'), prompt_cache.fetch('login', 'k');
RESET SESSION AUTHORIZATION;
SELECT prompt_cache.fetch('login', 'k') = session_user AS own;
SELECT prompt_cache.deny('regress_caller', 'login');
DROP ROLE regress_caller;

-- Functions of extensions: dblink by its name, others where they are VOLATILE. Ours say themselves what they read.
CREATE EXTENSION dblink;
CREATE EXTENSION "uuid-ossp";
CREATE TABLE none (v text);
SELECT add('linked', $$BEGIN RETURN (SELECT min(t.v) FROM none, dblink(none.v, 'SELECT 1') AS t(v text)); END$$);
SELECT prompt_cache.watch('none', 'linked');
SELECT add('drawn', 'BEGIN RETURN length(uuid_generate_v4()::text); END');
SELECT add('ours', $$BEGIN PERFORM prompt_cache.depends_on('tag'); RETURN prompt_cache.fetch('inner', key) || (SELECT count(*) FROM prompt_cache.fetch_many('inner', ARRAY[key])); END$$);
SELECT add('inner', 'BEGIN RETURN key; END');
SELECT n, twice(n) FROM unnest('{linked,drawn,ours}'::text[]) n;
SELECT * FROM reported;
SELECT count(prompt_cache.drop_namespace(namespace)) FROM prompt_cache.namespaces;

-- A cursor's rows are fetched one by one; a query that lies where another one lay is looked at.
CREATE TABLE rows AS SELECT i AS v FROM generate_series(1, 5) i;
SELECT add('cursor', $$DECLARE c CURSOR FOR SELECT v FROM rows ORDER BY v; x int; s text := ''; BEGIN OPEN c; LOOP FETCH c INTO x; EXIT WHEN NOT FOUND; s := s || x; END LOOP; CLOSE c; RETURN s; END$$);
SELECT add('dynamic', $$DECLARE q text; x text; BEGIN FOREACH q IN ARRAY string_to_array(key, ',') LOOP EXECUTE 'SELECT ' || q INTO x; END LOOP; RETURN x; END$$);
SELECT count(prompt_cache.watch('rows', n)) FROM unnest('{cursor,dynamic}'::text[]) n;
SELECT twice('cursor'), twice('dynamic', '1,2,3'), twice('dynamic', '1,timeofday(),3'), twice('dynamic', '1,2');
SELECT * FROM reported;
SELECT count(prompt_cache.drop_namespace(namespace)) FROM prompt_cache.namespaces;
DROP EXTENSION dblink, "uuid-ossp";
DROP VIEW reported;
DROP TABLE rows, none;
SELECT format('DROP FUNCTION %s', string_agg(oid::regprocedure::text, ', ' ORDER BY oid::regprocedure::text COLLATE "C")) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname ~ '^(b_.*|add|look|twice|shown|shared_by_two)$' \gexec
