-- What a transaction has written through is in memory after its commit.
-- "app" has no builder, "cfg" has one. look() says of both '-' for nothing, 'memory' for exactly what the table says, else WRONG.
CREATE TABLE themes (id int PRIMARY KEY, v text);
INSERT INTO themes SELECT n, 'first' FROM generate_series(1, 1) n;
CREATE FUNCTION theme(key text) RETURNS text LANGUAGE sql STABLE AS 'SELECT v FROM themes WHERE id = key::int';
SELECT prompt_cache.create_namespace('app'), prompt_cache.create_namespace('cfg', 'theme(text)');
SELECT prompt_cache.watch('themes', n, 'id') FROM unnest('{app,cfg}'::text[]) n;
CREATE FUNCTION set_theme(k int, value text) RETURNS text LANGUAGE plpgsql AS 'BEGIN UPDATE themes SET v = value WHERE id = k; RETURN ''set''; END';
CREATE FUNCTION state(n text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN NOT found THEN '-' WHEN value IS NOT DISTINCT FROM theme('1') THEN 'memory' ELSE 'WRONG: ' || coalesce(value, 'NULL') END FROM prompt_cache.get(n, '1')
$$;
-- What everybody gets; then all begins anew.
CREATE PROCEDURE look(OUT app text, OUT cfg text) LANGUAGE plpgsql AS $$
BEGIN
    app := state('app');
    cfg := state('cfg');
    PERFORM prompt_cache.forget_namespace('app'), prompt_cache.forget_namespace('cfg');
    INSERT INTO themes VALUES (1, 'first') ON CONFLICT (id) DO UPDATE SET v = 'first';
END $$;
-- Leases of both; what was seen, put with these leases; what a statement sees, put by it.
\set take_leases 'SELECT array_agg(prompt_cache.lease(n, ''1'')) AS leases FROM unnest(''{app,cfg}''::text[]) n'
\set see 'SELECT theme(''1'') AS seen'
\set put_seen 'SELECT array_agg(prompt_cache.put(n, ''1'', :''seen'', lease => l)) AS stored FROM unnest(''{app,cfg}''::text[], :''leases''::bigint[]) u(n, l)'
\set put_now 'prompt_cache.put(''app'', ''1'', theme(''1'')) AS app, prompt_cache.put(''cfg'', ''1'', prompt_cache.rebuild(''cfg'', ''1'')) AS cfg'

\echo 1. a change and its value
BEGIN;
SELECT set_theme(1, 'second');
SELECT :put_now;
COMMIT;
SELECT source FROM prompt_cache.fetch_many('cfg', '{1}');
CALL look(NULL, NULL);
\echo 2. twice
BEGIN;
SELECT set_theme(1, 'second');
SELECT :put_now;
SELECT set_theme(1, 'third');
SELECT :put_now;
COMMIT;
CALL look(NULL, NULL);
\echo 3. put twice
BEGIN;
SELECT set_theme(1, 'second');
SELECT :put_now;
SELECT :put_now;
COMMIT;
CALL look(NULL, NULL);
\echo 4. in one function
CREATE FUNCTION through(OUT app boolean, OUT cfg boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_theme(1, 'second');
    app := prompt_cache.put('app', '1', theme('1'));
    cfg := prompt_cache.put('cfg', '1', theme('1'));
END $$;
SELECT * FROM through();
CALL look(NULL, NULL);
\echo 5. with leases that are taken after the change
BEGIN;
SELECT set_theme(1, 'second');
:take_leases \gset
:see \gset
:put_seen;
COMMIT;
CALL look(NULL, NULL);
\echo 6. a row that goes
BEGIN;
DELETE FROM themes WHERE id = 1;
SELECT :put_now;
COMMIT;
CALL look(NULL, NULL);
\echo 7. a declared change, of the key, of its prefix, of the namespace
BEGIN;
SELECT prompt_cache.forget('app', '1'), prompt_cache.forget_prefix('cfg', ''), prompt_cache.forget_namespace('app');
SELECT :put_now;
COMMIT;
CALL look(NULL, NULL);
\echo 8. a change after the cursor has put
BEGIN;
SELECT set_theme(1, 'second');
DECLARE c CURSOR FOR SELECT :put_now;
FETCH c;
COMMIT;
CALL look(NULL, NULL);
\echo 9. what a builder fetches belongs to it: a change of that is a change
CREATE FUNCTION pair(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT prompt_cache.fetch('cfg', key) || ' pair' $$;
SELECT prompt_cache.create_namespace('pairs', 'pair(text)');
BEGIN;
SELECT set_theme(1, 'second');
SELECT prompt_cache.put('pairs', '1', prompt_cache.rebuild('pairs', '1'));
COMMIT;
SELECT * FROM prompt_cache.fetch_many('pairs', '{1}');
SELECT set_theme(1, 'third');
SELECT * FROM prompt_cache.get('pairs', '1');
BEGIN;
SELECT prompt_cache.put('pairs', '1', prompt_cache.rebuild('pairs', '1'));
SELECT set_theme(1, 'fourth');
COMMIT;
SELECT * FROM prompt_cache.get('pairs', '1');
SELECT set_theme(1, 'fifth'), prompt_cache.put('pairs', '1', pair('1'));
SELECT * FROM prompt_cache.get('pairs', '1');
SELECT * FROM prompt_cache.verify();
SELECT prompt_cache.drop_namespace('pairs');
SELECT prompt_cache.drop_namespace(n) FROM unnest('{app,cfg}'::text[]) n;
DROP TABLE themes;
DROP PROCEDURE look;
DROP FUNCTION through, pair, state, set_theme, theme;
