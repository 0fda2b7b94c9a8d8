-- Values that an application makes: get, put, lease, forget; tags, prefixes, absences, many keys at once.
SELECT prompt_cache.create_namespace('models', ttl => '300 s');
CREATE FUNCTION show(k text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN found THEN coalesce(value, '(null)') ELSE '-' END FROM prompt_cache.get('models', k)
$$;
SELECT prompt_cache.fetch('models', 'a');
SELECT * FROM prompt_cache.get('models', 'a');
SELECT prompt_cache.put('models', 'a', 'A'), prompt_cache.put('models', 'b', NULL), prompt_cache.put('models', '', 'empty');
SELECT show('a'), show('b'), show('');
SELECT prompt_cache.put('models', 'a', 'A2');
SELECT show('a');

-- At commit for everybody, not at all on rollback; what is put in a savepoint goes with it.
BEGIN;
SELECT prompt_cache.put('models', 'c', 'C');
SELECT show('c');
COMMIT;
SELECT show('c');
BEGIN;
SELECT prompt_cache.put('models', 'c', 'wrong');
SAVEPOINT a;
SELECT prompt_cache.put('models', 'd', 'wrong');
ROLLBACK TO a;
SAVEPOINT b;
SELECT prompt_cache.put('models', 'e', 'E');
RELEASE b;
COMMIT;
SELECT show('c'), show('d'), show('e');
BEGIN;
SELECT prompt_cache.put('models', 'c', 'wronger');
ROLLBACK;
SELECT show('c');

-- forget: at once for the caller, at commit for others, not at all on rollback.
BEGIN;
SELECT prompt_cache.forget('models', 'c');
SELECT show('c'), show('e');
ROLLBACK;
SELECT show('c');
SELECT prompt_cache.forget('models', 'c');
SELECT show('c'), show('e');

-- Tags.
SELECT prompt_cache.put('models', 'x', 'X', tags => '{provider/1,tenant/7}'), prompt_cache.put('models', 'y', 'Y', tags => '{provider/2}');
SELECT prompt_cache.forget_tag('provider/3');
SELECT show('x'), show('y');
BEGIN;
SELECT prompt_cache.forget_tag('tenant/7');
SELECT show('x'), show('y');
ROLLBACK;
SELECT prompt_cache.forget_tag('tenant/7');
SELECT show('x'), show('y');

-- Prefixes are bytes, never a pattern.
SELECT count(prompt_cache.put('models', k, k)) FROM unnest('{p1,p2,p%,p_x,q1}'::text[]) k;
BEGIN;
SELECT prompt_cache.forget_prefix('models', 'p_');
SELECT show('p1'), show('p_x');
ROLLBACK;
SELECT prompt_cache.forget_prefix('models', 'p%'), prompt_cache.forget_prefix('models', 'z');
SELECT show('p1'), show('p%'), show('p_x'), show('q1');
SELECT prompt_cache.forget_prefix('models', 'p'), prompt_cache.forget_prefix('models', '');
SELECT show('p1'), show('q1'), show('y');
SELECT prompt_cache.put('models', 'p1', 'again');
SELECT show('p1');
SELECT prompt_cache.forget_namespace('models');
SELECT show('p1');

-- A lease: for one; its put ends it.
SELECT prompt_cache.lease('models', 'l') AS lease \gset
SELECT :lease IS NOT NULL AS mine, prompt_cache.lease('models', 'l') AS second, prompt_cache.lease('models', 'other') IS NOT NULL AS other;
SELECT prompt_cache.put('models', 'l', 'L', lease => :lease), prompt_cache.put('models', 'l', 'L2', lease => :lease) AS twice;
SELECT show('l');
SELECT prompt_cache.put('models', 'l', 'none', lease => 1);
SELECT prompt_cache.lease('models', 'l') AS lease \gset
SELECT prompt_cache.put('models', 'not the key', 'none', lease => :lease);
SELECT prompt_cache.put('models', 'l', 'L3', lease => :lease);
-- Overtaken: what the lease's holder read may be older than the change.
SELECT prompt_cache.lease('models', 't') AS lease \gset
SELECT prompt_cache.forget_tag('provider/9');
SELECT prompt_cache.put('models', 't', 'old', tags => '{provider/9}', lease => :lease);
SELECT show('t');
SELECT prompt_cache.lease('models', 't') AS lease \gset
SELECT prompt_cache.put('models', 't', 'new', tags => '{provider/9}', lease => :lease);
SELECT show('t');

-- Write-through: the transaction that changes a tag puts what it has written; a change after the put makes it void.
BEGIN;
SELECT prompt_cache.forget_tag('provider/9');
SELECT prompt_cache.put('models', 't', 'written through', tags => '{provider/9}');
COMMIT;
SELECT show('t');
BEGIN;
SELECT prompt_cache.put('models', 't', 'too early', tags => '{provider/9}');
SELECT prompt_cache.forget_tag('provider/9');
COMMIT;
SELECT show('t');
BEGIN;
SELECT prompt_cache.put('models', 't', 'prepared');
PREPARE TRANSACTION 'put';
COMMIT PREPARED 'put';
SELECT show('t');

-- Times to live: sliding, one's own, none.
SELECT prompt_cache.put('models', 'soon', 'gone', ttl => '1 ms'), prompt_cache.put('models', 'never', 'stays', ttl => '0');
SELECT pg_sleep(0.05);
SELECT show('soon'), show('never');
SELECT prompt_cache.put('models', 'k', 'v', ttl => '-1 s');

-- Keys: any text up to 1 kB.
SELECT prompt_cache.put('models', E'\n', 'newline'), prompt_cache.put('models', repeat('k', 1024), 'long'), prompt_cache.put('models', '%', 'percent');
SELECT show(E'\n'), show(repeat('k', 1024)), show('%');
SELECT show(repeat('k', 2048));
SELECT prompt_cache.put('models', repeat('k', 1025), 'longer');

SELECT namespace, lookups = hits_memory + misses + bypasses AS adds_up, hits_memory > 0 AS hits, misses > 0 AS misses FROM prompt_cache.stats WHERE namespace = 'models';
SELECT prompt_cache.drop_namespace('models');
DROP FUNCTION show(text);
