-- Leases: their numbers, who gets one when all are taken, and when one gives way. There are 256 for the whole server, some of which other
-- sessions may hold.
CREATE TABLE items (id int PRIMARY KEY, v text);
INSERT INTO items VALUES (1, 'one');
SELECT prompt_cache.create_namespace('jobs'), prompt_cache.watch('items', 'jobs', 'id');
CREATE ROLE regress_pc_greedy;
CREATE ROLE regress_pc_modest;
GRANT USAGE ON SCHEMA prompt_cache TO regress_pc_greedy, regress_pc_modest;
SELECT prompt_cache.allow('regress_pc_greedy', 'jobs'), prompt_cache.allow('regress_pc_modest', 'jobs');
GRANT EXECUTE ON FUNCTION prompt_cache.lease, prompt_cache.put TO regress_pc_greedy, regress_pc_modest;

-- One role takes all that it can get.
SET SESSION AUTHORIZATION regress_pc_greedy;
SELECT array_agg(prompt_cache.lease('jobs', 'greedy ' || n) ORDER BY n) AS greedy FROM generate_series(1, 400) n \gset
SELECT count(id) BETWEEN 200 AND 256 AS most, max(id) < 2::numeric ^ 53 AND min(id) > 0 AS fit_a_double FROM unnest(:'greedy'::bigint[]) id;
SELECT prompt_cache.lease('jobs', 'one more') IS NULL AS no_more;
-- Another role gets one all the same, and then as many as the first one has left.
SET SESSION AUTHORIZATION regress_pc_modest;
SELECT array_agg(prompt_cache.lease('jobs', 'modest ' || n) ORDER BY n) AS modest FROM generate_series(1, 400) n \gset
SELECT (:'modest'::bigint[])[1] IS NOT NULL AS first, count(id) BETWEEN 100 AND 128 AS half FROM unnest(:'modest'::bigint[]) id;
SET SESSION AUTHORIZATION regress_pc_greedy;
SELECT prompt_cache.lease('jobs', 'one more') IS NULL AS no_more;
-- What has given way were the oldest; their put is refused.
SELECT prompt_cache.put('jobs', 'greedy ' || n, 'v', lease => id) AS stored, count(*) > 50 AS many, min(n) < 10 AS oldest, max(n) > 190 AS newest
  FROM unnest(:'greedy'::bigint[]) WITH ORDINALITY u(id, n) WHERE id IS NOT NULL GROUP BY 1 ORDER BY 1;
SET SESSION AUTHORIZATION regress_pc_modest;
SELECT bool_and(prompt_cache.put('jobs', 'modest ' || n, 'v', lease => id)) AS stored FROM unnest(:'modest'::bigint[]) WITH ORDINALITY u(id, n) WHERE id IS NOT NULL;
RESET SESSION AUTHORIZATION;

-- A lease that nothing can be put with any more gives way: the key, its prefix, the namespace or a watched row was changed.
CREATE FUNCTION taken_again(OUT first boolean, OUT second boolean) LANGUAGE sql AS $$ SELECT prompt_cache.lease('jobs', '1') IS NOT NULL, prompt_cache.lease('jobs', '1') IS NOT NULL $$;
SELECT * FROM taken_again();
SELECT prompt_cache.forget('jobs', '1');
SELECT * FROM taken_again();
SELECT prompt_cache.forget_prefix('jobs', 'x');
SELECT * FROM taken_again();
SELECT prompt_cache.forget_namespace('jobs');
SELECT * FROM taken_again();
UPDATE items SET v = 'two' WHERE id = 1;
SELECT * FROM taken_again();
UPDATE items SET v = 'three' WHERE id = 2;
SELECT * FROM taken_again();

-- Where nothing can be stored everybody builds for himself, and nothing is put.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT prompt_cache.lease('jobs', '2') AS lease \gset
SELECT :lease < 2::numeric ^ 53 AS a_number, prompt_cache.lease('jobs', '2') IS NOT NULL AS another, prompt_cache.put('jobs', '2', 'v', lease => :lease);
COMMIT;

SELECT prompt_cache.drop_namespace('jobs');
DROP FUNCTION taken_again;
DROP TABLE items;
DROP OWNED BY regress_pc_greedy, regress_pc_modest;
DROP ROLE regress_pc_greedy, regress_pc_modest;
