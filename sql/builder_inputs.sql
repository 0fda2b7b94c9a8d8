-- What a builder's functions read besides their arguments: reported, and kept for the time to live alone, or not at all where it is the caller's.
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE FUNCTION look(space text, k text DEFAULT 'k', OUT source text, OUT exact boolean) LANGUAGE sql STABLE AS $$
    SELECT f.source, f.value IS NOT DISTINCT FROM prompt_cache.rebuild(space, k) FROM prompt_cache.fetch_many(space, ARRAY[k]) f
$$;
CREATE VIEW reported AS SELECT namespace, unwatched_functions FROM prompt_cache.namespaces WHERE unwatched_functions <> '{}' ORDER BY 1;
CREATE ROLE regress_inputs;
CREATE TABLE things (id int PRIMARY KEY, of regclass, role regrole, note text);
CREATE TABLE thing (id serial);
INSERT INTO things VALUES (1, 'thing', 'regress_inputs', 'x');
CREATE FUNCTION add(name text, body text, ttl text DEFAULT '1 h', language text DEFAULT 'sql') RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE FUNCTION b_%s(key text) RETURNS text STABLE LANGUAGE %s AS %L', name, language, body);
    PERFORM prompt_cache.create_namespace(name, format('b_%s(text)', name)::regprocedure, ttl::interval);
    RETURN prompt_cache.watch('things', name);
END
$$;

-- Each of these was silent: the value changes, and no row of a table does.
SELECT add('names', 'SELECT of::text FROM things');
SELECT add('rights', $$SELECT has_table_privilege('pg_monitor', 'thing', 'SELECT')::text FROM things$$);
SELECT add('sequence', $$SELECT pg_sequence_last_value('thing_id_seq')::text FROM things$$);
SELECT add('roles', 'SELECT role::text FROM things');
SELECT add('size', $$SELECT pg_relation_size('thing')::text FROM things$$);
SELECT add('database', 'SELECT current_database() FROM things');
SELECT add('exists', 'SELECT (to_regclass(key) IS NULL)::text FROM things');
SELECT add('day', $$SELECT (CURRENT_DATE - '2000-01-01'::date > 0)::text FROM things$$);
SELECT n, look(n) FROM unnest('{names,rights,sequence,roles,size,database,exists,day}'::text[]) n;
SELECT * FROM reported;
SELECT n, look(n) FROM unnest('{names,rights,sequence,roles,size,database,exists,day}'::text[]) n;
ALTER TABLE thing RENAME TO renamed_thing;
SELECT look('names'), prompt_cache.rebuild('names', 'k');
SELECT prompt_cache.forget_namespace('names');
SELECT look('names');
ALTER TABLE renamed_thing RENAME TO thing;
GRANT SELECT ON thing TO pg_monitor;
SELECT look('rights');
INSERT INTO thing VALUES (DEFAULT);
SELECT look('sequence'), look('size');
ALTER ROLE regress_inputs RENAME TO regress_renamed;
SELECT look('roles');
ALTER ROLE regress_renamed RENAME TO regress_inputs;
SELECT r FROM jsonb_array_elements_text(prompt_cache.health() -> 'reasons') r WHERE r ~ '^namespace' ORDER BY r COLLATE "C";
SELECT count(*) FROM prompt_cache.verify();
SELECT prompt_cache.explain('day', 'k');
SELECT count(prompt_cache.drop_namespace(namespace)) FROM prompt_cache.namespaces;

-- The caller's and the session's: nothing is kept.
SET app.login = 'one';
SELECT add('caller', 'SELECT session_user::text FROM things');
SELECT add('custom', $$SELECT current_setting('app.login') FROM things$$);
SELECT add('setting', $$SELECT current_setting('work_mem') FROM things$$);
SELECT add('named', $$SELECT current_setting(key, true) FROM things$$);
SELECT add('backend', 'SELECT pg_backend_pid()::text FROM things');
SELECT add('within', $$SELECT prompt_cache.fetch('caller', key) FROM things$$);
SELECT prompt_cache.create_namespace('itself', 'pg_catalog.current_setting(text)');
SELECT n, look(n, 'work_mem'), (look(n, 'work_mem')).source FROM unnest('{caller,custom,setting,named,backend,within,itself}'::text[]) n;
SELECT * FROM reported;
SELECT r FROM jsonb_array_elements_text(prompt_cache.health() -> 'reasons') r WHERE r ~ 'caller';
SELECT count(prompt_cache.drop_namespace(namespace)) FROM prompt_cache.namespaces;

-- Fixed for every caller, so that nothing is reported: settings that builders run under, what arguments and watched rows make, waits.
SELECT add('steady', $$SELECT concat_ws(' ', current_setting('TimeZone'), set_config('app.user', 'x', true), note, to_char(timestamptz '2026-01-01 00:00+00', 'YYYY'),
    '2026-01-01'::text::date, key::text::timestamptz > date '2026-01-01', json_build_object('a', note, 'b', ARRAY[id]), to_jsonb(ROW(1, note)), pg_typeof(id)::oid,
    to_tsvector('simple', note), pg_sleep(0), (SELECT json_agg(t.note) FROM things t), quote_literal(id), timestamptz(date '2026-01-01'))
    FROM things WHERE of = 'thing'::regclass$$);
SELECT look('steady', '2026-02-02'), look('steady', '2026-02-02');
-- The text that other types are given inside of arrays, rows, ranges and json.
CREATE TYPE of_thing AS (id int, of regclass);
SELECT add('listed', 'SELECT array_agg(of)::text FROM things');
SELECT add('rowed', 'SELECT (t.*)::text FROM things t');
SELECT add('json', 'SELECT json_build_object(key, of) FROM things');
SELECT add('rows', 'SELECT json_agg(t) FROM (SELECT id, of FROM things OFFSET 0) t');
SELECT add('composite', 'SELECT ROW(1, of)::of_thing::text FROM things');
SELECT add('concat', 'SELECT concat(of) FROM things');
SELECT add('acl', $$SELECT ('{=r/' || current_user || '}')::aclitem[]::text FROM things$$);
SELECT add('xml', 'SELECT xmlelement(name a, of)::text FROM things');
SELECT add('assigned', $$DECLARE v text; BEGIN SELECT of INTO v FROM things; RETURN v; END$$, language => 'plpgsql');
SELECT n, look(n) FROM unnest('{listed,rowed,json,rows,composite,concat,acl,xml,assigned}'::text[]) n;
SELECT * FROM reported;
SELECT count(prompt_cache.drop_namespace(namespace)) FROM prompt_cache.namespaces;

-- Wherever in a plan it is called.
CREATE TABLE times (at timestamptz);
INSERT INTO times SELECT '2026-01-01'::timestamptz + i * interval '1 h' FROM generate_series(1, 1000) i;
CREATE INDEX ON times (at);
SELECT add('target', 'SELECT now()::text');
SELECT add('where_', 'SELECT count(*)::text FROM things WHERE now() > ''2000-01-01''');
SELECT add('index', 'SELECT count(*)::text FROM times WHERE at > now()');
SELECT add('join', 'SELECT count(b.note)::text FROM things a LEFT JOIN things b ON a.id = b.id AND random() < 2');
SELECT add('agg', 'SELECT max(clock_timestamp())::text FROM things');
SELECT add('window', 'SELECT max(x)::text FROM (SELECT count(*) OVER (ORDER BY random()) x FROM things) t');
SELECT add('having', 'SELECT count(*)::text FROM things HAVING statement_timestamp() > ''2000-01-01''');
SELECT add('scan', 'SELECT count(*)::text FROM generate_series(now(), now(), ''1 h'') t');
SELECT add('subplan', 'SELECT (SELECT max(note) FROM things b WHERE b.id = a.id AND gen_random_uuid() IS NOT NULL) FROM things a');
SELECT add('limit_', 'SELECT note FROM things ORDER BY 1 LIMIT (SELECT ceil(random() + 1))');
SELECT add('values_', 'SELECT max(v)::text FROM (VALUES (1), (random())) t(v)');
SELECT add('lateral_', 'SELECT count(*)::text FROM things, LATERAL unnest(ARRAY[id, pg_backend_pid()]) u');
SELECT add('cte', 'WITH t AS MATERIALIZED (SELECT timeofday() v) SELECT v FROM t');
SELECT add('sample', 'SELECT count(*)::text FROM things TABLESAMPLE bernoulli (100)');
SELECT add('xmltable_', $$SELECT count(*)::text FROM things, XMLTABLE('/a' PASSING XMLPARSE(DOCUMENT '<a/>' || left(random()::text, 0)) COLUMNS a text)$$);
SELECT prompt_cache.watch('times', 'index');
SELECT n, (look(n)).source FROM unnest('{target,where_,index,join,agg,window,having,scan,subplan,limit_,values_,lateral_,cte,sample,xmltable_}'::text[]) n;
SELECT * FROM reported;
SELECT count(prompt_cache.drop_namespace(namespace)) FROM prompt_cache.namespaces;
DROP VIEW reported;
DROP TABLE things, thing, times;
DROP TYPE of_thing;
DROP ROLE regress_inputs;
SELECT format('DROP FUNCTION %s', string_agg(oid::regprocedure::text, ', ' ORDER BY oid::regprocedure::text COLLATE "C")) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname ~ '^(b_.*|add|look)$' \gexec
