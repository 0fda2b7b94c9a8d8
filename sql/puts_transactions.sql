-- Puts and leases beside savepoints, isolation levels, prepared transactions and deferred triggers.
-- "app" has no builder, "cfg" has one. look() says of both '-' for nothing, 'memory' for exactly what the table says, else WRONG.
CREATE TABLE orders (theme int, v text, puts boolean);
CREATE TABLE themes (id int PRIMARY KEY, v text);
INSERT INTO themes SELECT n, 'first' FROM generate_series(1, 5000) n;
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
CREATE FUNCTION ordered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_theme(new.theme, new.v);
    IF new.puts THEN PERFORM prompt_cache.put('app', '1', theme('1')), prompt_cache.put('cfg', '1', theme('1')); END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ordered();

\echo 1. a change in a savepoint that is released
BEGIN;
SAVEPOINT s;
SELECT set_theme(1, 'second');
RELEASE s;
SELECT :put_now;
COMMIT;
CALL look(NULL, NULL);
\echo 2. a change in a savepoint that is rolled back, read before that, put after it; what the builder gives can still be put
BEGIN;
:take_leases \gset
SAVEPOINT s;
SELECT set_theme(1, 'never');
:see \gset
ROLLBACK TO s;
:put_seen;
SELECT :put_now;
COMMIT;
CALL look(NULL, NULL);
\echo 3. a put in a savepoint that is rolled back
BEGIN;
SELECT set_theme(1, 'second');
SAVEPOINT s;
SELECT :put_now;
ROLLBACK TO s;
COMMIT;
CALL look(NULL, NULL);
\echo 4. leases of a transaction that is rolled back, wholly or in part: what was read for them never was
BEGIN;
:take_leases \gset
SELECT set_theme(1, 'never');
:see \gset
ROLLBACK;
:put_seen;
CALL look(NULL, NULL);
BEGIN;
:take_leases \gset
SAVEPOINT s;
SELECT set_theme(1, 'never');
:see \gset
ROLLBACK TO s;
COMMIT;
:put_seen;
CALL look(NULL, NULL);
\echo 5. a transaction that is rolled back without a write leaves its leases
BEGIN;
:take_leases \gset
:see \gset
ROLLBACK;
:put_seen;
CALL look(NULL, NULL);
\echo 6. isolation levels, READ ONLY
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT set_theme(1, 'second');
SELECT :put_now;
COMMIT;
CALL look(NULL, NULL);
BEGIN ISOLATION LEVEL REPEATABLE READ;
:take_leases \gset
:see \gset
SELECT set_theme(1, 'second');
:put_seen;
COMMIT;
CALL look(NULL, NULL);
BEGIN READ ONLY;
SELECT :put_now;
COMMIT;
CALL look(NULL, NULL);
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT :put_now;
COMMIT;
CALL look(NULL, NULL);
\echo 7. prepared
BEGIN;
SELECT set_theme(1, 'second');
SELECT :put_now;
PREPARE TRANSACTION 'puts';
COMMIT PREPARED 'puts';
CALL look(NULL, NULL);
\echo 8. a deferred trigger changes the row after the put; and puts what it has made of it
BEGIN;
INSERT INTO orders VALUES (1, 'late', false);
SELECT :put_now;
COMMIT;
CALL look(NULL, NULL);
INSERT INTO orders VALUES (1, 'late', true);
CALL look(NULL, NULL);
\echo 9. more changes than are told apart
BEGIN;
UPDATE themes SET v = v;
SELECT :put_now;
COMMIT;
CALL look(NULL, NULL);
SELECT prompt_cache.drop_namespace(n) FROM unnest('{app,cfg}'::text[]) n;
DROP TABLE themes, orders;
DROP PROCEDURE look;
DROP FUNCTION ordered, state, set_theme, theme;
