-- A value that has not seen every change of its own transaction is refused or void, however the change and the put come about.
-- "app" has no builder, "cfg" has one. look() says of both '-' for nothing, 'memory' for exactly what the table says, else WRONG.
CREATE TABLE orders (theme int, v text);
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
CREATE FUNCTION ordered() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM set_theme(new.theme, new.v); RETURN NULL; END';
CREATE TRIGGER ordered AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION ordered();

\echo 1. a lease, an own change, a put of what was read before
BEGIN;
:take_leases \gset
:see \gset
SELECT set_theme(1, 'second');
:put_seen;
COMMIT;
CALL look(NULL, NULL);
\echo 2. the same in one function
CREATE FUNCTION lease_set_put(n text, OUT stored boolean) LANGUAGE plpgsql AS $$
DECLARE
    lease bigint := prompt_cache.lease(n, '1');
    seen text := theme('1');
BEGIN
    PERFORM set_theme(1, n);
    stored := prompt_cache.put(n, '1', seen, lease => lease);
END $$;
SELECT lease_set_put('app'), lease_set_put('cfg');
CALL look(NULL, NULL);
\echo 3. the change is made by a trigger of another table
BEGIN;
:take_leases \gset
:see \gset
INSERT INTO orders VALUES (1, 'second');
:put_seen;
COMMIT;
CALL look(NULL, NULL);
\echo 4. a change before the lease and another one after the reading
BEGIN;
SELECT set_theme(1, 'second');
:take_leases \gset
:see \gset
SELECT set_theme(1, 'third');
:put_seen;
COMMIT;
CALL look(NULL, NULL);
\echo 5. a function writes, then the same statement puts what it sees
SELECT set_theme(1, 'second'), :put_now;
CALL look(NULL, NULL);
\echo 6. the same statement puts, then writes
SELECT :put_now, set_theme(1, 'second');
CALL look(NULL, NULL);
\echo 7. a cursor that puts, opened before the change
BEGIN;
DECLARE c CURSOR FOR SELECT :put_now;
SELECT set_theme(1, 'second');
FETCH c;
COMMIT;
CALL look(NULL, NULL);
\echo 8. a cursor that takes the leases, opened before the change
BEGIN;
DECLARE c CURSOR FOR :take_leases;
SELECT set_theme(1, 'second');
FETCH c \gset
:see \gset
:put_seen;
COMMIT;
CALL look(NULL, NULL);
\echo 9. a CTE that writes
WITH w AS (UPDATE themes SET v = 'second' WHERE id = 1 RETURNING id) SELECT :put_now FROM w;
CALL look(NULL, NULL);
\echo 10. RETURNING
UPDATE themes SET v = 'second' WHERE id = 1 RETURNING :put_now, prompt_cache.put('cfg', '1', v) AS new;
CALL look(NULL, NULL);
\echo 11. a function inside of a statement that still writes
CREATE FUNCTION newer() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN prompt_cache.put('app', '1', theme('1')) OR prompt_cache.put('cfg', '1', theme('1')); END $$;
WITH w AS (UPDATE themes SET v = 'second' WHERE id = 1 RETURNING id) SELECT newer() FROM w;
CALL look(NULL, NULL);
\echo 12. nested functions: the inner one writes, the outer one puts what it has read before
CREATE FUNCTION outermost(n text, lease bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    seen text := theme('1');
    r text;
BEGIN
    SELECT set_theme(1, 'second') || prompt_cache.put(n, '1', seen, lease => lease) INTO r;
    RETURN r;
END $$;
SELECT outermost(n, CASE WHEN with_lease THEN prompt_cache.lease(n, '1') END) FROM unnest('{app,cfg}'::text[]) n, unnest('{f,t}'::boolean[]) with_lease;
CALL look(NULL, NULL);
\echo 13. leases that are older than the transaction: the reading may lie on either side of the change
:take_leases \gset
BEGIN;
SELECT set_theme(1, 'second');
:see \gset
:put_seen;
COMMIT;
CALL look(NULL, NULL);
:take_leases \gset
BEGIN;
:see \gset
SELECT set_theme(1, 'second');
:put_seen;
COMMIT;
CALL look(NULL, NULL);
\echo 14. a put, then a declared change
BEGIN;
SELECT :put_now;
SELECT prompt_cache.forget('app', '1'), prompt_cache.forget_prefix('cfg', '1');
COMMIT;
CALL look(NULL, NULL);
SELECT prompt_cache.drop_namespace(n) FROM unnest('{app,cfg}'::text[]) n;
DROP TABLE themes, orders;
DROP PROCEDURE look;
DROP FUNCTION ordered, lease_set_put, newer, outermost, state, set_theme, theme;
