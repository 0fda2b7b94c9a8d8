-- Partitioned sources: changes at every level, rows that move, partitions that come and go.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA partitions;
SET search_path = partitions;

CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text) PARTITION BY HASH (id);
CREATE TABLE tenants_0 PARTITION OF tenants FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE tenants_1 PARTITION OF tenants FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text, last_login timestamptz) PARTITION BY RANGE (user_id);
CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (1) TO (100);
CREATE TABLE users_mid PARTITION OF users FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (user_id);
CREATE TABLE users_mid_a PARTITION OF users_mid FOR VALUES FROM (100) TO (150);
-- Another order of columns than the root's.
CREATE TABLE users_mid_b (last_login timestamptz, junk int, system_prompt text, tenant_id bigint, user_id bigint NOT NULL);
ALTER TABLE users_mid_b DROP junk;
ALTER TABLE users_mid ATTACH PARTITION users_mid_b FOR VALUES FROM (150) TO (200);
INSERT INTO tenants SELECT t, 'T' || t FROM generate_series(1, 4) t;
INSERT INTO users SELECT u, 1 + u % 4, 'u' || u FROM generate_series(1, 199) u;
SELECT prompt_cache.attach();

CREATE FUNCTION look(id bigint) RETURNS TABLE (source text, ends text, exact boolean) LANGUAGE sql STABLE AS $$
    SELECT g.source, substring(g.prompt FROM '[^\n]*$'), g.prompt IS NOT DISTINCT FROM prompt_cache.build(id)
      FROM prompt_cache.get_or_build(id) g
$$;
-- Every id there may be, against the tables themselves. Tags share slots: a change may cost a few more builds than it must.
CREATE FUNCTION look_all() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN count(*) FILTER (WHERE g.source = 'built') = 0 THEN 'memory' WHEN count(*) FILTER (WHERE g.source = 'built') >= 319 THEN 'built'
                WHEN count(*) FILTER (WHERE g.source = 'built') < 20 THEN 'few built' ELSE 'some built' END
           || CASE WHEN bool_and(g.prompt IS NOT DISTINCT FROM e.prompt) THEN '' ELSE ' WRONG' END
      FROM (SELECT n.id, CASE WHEN u.user_id IS NOT NULL THEN concat_ws(E'\n\n', E'--- Tenant Guidelines ---\n' || t.system_prompt,
                                                                      E'--- User Preferences ---\n' || u.system_prompt) END AS prompt
              FROM generate_series(1, 320) n(id) LEFT JOIN users u ON u.user_id = n.id LEFT JOIN tenants t ON t.id = u.tenant_id) e,
           prompt_cache.get_or_build(e.id) g
$$;
CREATE FUNCTION unsound() RETURNS bigint LANGUAGE sql AS $$ SELECT jsonb_array_length(prompt_cache.health()->'triggers') $$;
SELECT look_all() AS first, look_all() AS second, unsound();

-- Rows changed through the root and in the leaf.
UPDATE users SET system_prompt = 'by root' WHERE user_id IN (10, 110, 160);
UPDATE users_mid SET system_prompt = 'by mid' WHERE user_id = 111;
UPDATE users_mid_b SET system_prompt = 'by leaf' WHERE user_id = 161;
UPDATE users_low SET system_prompt = 'by leaf' WHERE user_id = 11;
INSERT INTO users_low VALUES (99, 1, 'x') ON CONFLICT (user_id) DO UPDATE SET system_prompt = 'conflict';
DELETE FROM users_mid_b WHERE user_id = 162;
SELECT look_all() AS first, look_all() AS second;
UPDATE users SET last_login = now();
SELECT look_all();
-- In another column order the tenant counts, too.
UPDATE users_mid_b SET tenant_id = 4 WHERE user_id = 160;
UPDATE tenants SET system_prompt = 'T new' WHERE id IN (1, 2);
SELECT look_all() AS first, look_all() AS second;

-- A row moves to another partition; two swap keys across partitions.
UPDATE users SET user_id = 162 WHERE user_id = 12;
SELECT * FROM look(12);
SELECT * FROM look(162);
BEGIN;
UPDATE users SET user_id = 12 WHERE user_id = 162;
UPDATE users SET user_id = 162 WHERE user_id = 11;
UPDATE users SET user_id = 11 WHERE user_id = 12;
SELECT look_all();
COMMIT;
SELECT look_all() AS first, look_all() AS second;

-- New partitions are watched from the start: made, attached, attached with rows and triggers of their own.
CREATE TABLE users_high PARTITION OF users FOR VALUES FROM (200) TO (300);
SELECT unsound(), look_all() AS first, look_all() AS second;
INSERT INTO users_high VALUES (200, 1, 'high');
SELECT * FROM look(200);
CREATE TABLE users_top (LIKE users INCLUDING ALL);
INSERT INTO users_top VALUES (300, 2, 'top');
SELECT prompt_cache.prompt(300) IS NULL AS absent;
ALTER TABLE users ATTACH PARTITION users_top FOR VALUES FROM (300) TO (400);
SELECT unsound(), prompt_cache.prompt(300) IS NULL AS absent, look_all() AS first, look_all() AS second;
UPDATE users_top SET system_prompt = 'top leaf' WHERE user_id = 300;
SELECT * FROM look(300);
SELECT look_all();

-- Detached, with its rows; attached again; dropped.
ALTER TABLE users DETACH PARTITION users_high;
SELECT prompt_cache.prompt(200) IS NULL AS absent, unsound(), look_all() AS first, look_all() AS second;
UPDATE users_high SET system_prompt = 'while away';
SELECT look_all();
ALTER TABLE users ATTACH PARTITION users_high FOR VALUES FROM (200) TO (300);
SELECT unsound(), look_all() AS first, look_all() AS second;
SELECT ends, exact FROM look(200);
ALTER TABLE users DETACH PARTITION users_high CONCURRENTLY;
SELECT prompt_cache.prompt(200) IS NULL AS absent, look_all() AS first, look_all() AS second;
DROP TABLE users_high;
DROP TABLE users_top;
SELECT unsound(), prompt_cache.prompt(300) IS NULL AS absent, look_all() AS first, look_all() AS second;

-- TRUNCATE of a leaf fires no trigger of the root. Triggers of one leaf switched off count.
TRUNCATE users_mid_a;
SELECT prompt_cache.prompt(110) IS NULL AS gone, look_all() AS first, look_all() AS second;
TRUNCATE ONLY tenants_0;
SELECT look_all() AS first, look_all() AS second;
ALTER TABLE users_low DISABLE TRIGGER prompt_cache_user_changed;
UPDATE users_low SET system_prompt = 'unseen' WHERE user_id = 10;
SELECT unsound(), look_all() AS first, look_all() AS second;
ALTER TABLE users_low ENABLE TRIGGER prompt_cache_user_changed;
SELECT prompt_cache.flush() >= 0 AS flushed;
SELECT unsound(), look_all() AS first, look_all() AS second;
SELECT * FROM look(10);
-- The tables' owner, without any right of the extension's, makes and attaches partitions.
CREATE ROLE regress_pc_part;
GRANT ALL ON SCHEMA partitions TO regress_pc_part;
ALTER TABLE users OWNER TO regress_pc_part;
SET ROLE regress_pc_part;
CREATE TABLE users_own PARTITION OF users FOR VALUES FROM (300) TO (310);
CREATE TABLE users_own2 (LIKE users_own INCLUDING ALL);
ALTER TABLE users ATTACH PARTITION users_own2 FOR VALUES FROM (310) TO (320);
INSERT INTO users VALUES (301, 1, 'own'), (311, 1, 'own');
DROP TABLE users_own2;
RESET ROLE;
SELECT unsound(), look_all() AS first, look_all() AS second;
-- Everything comes off again.
SELECT prompt_cache.detach(), (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'prompt\_cache\_user%') AS before;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgname LIKE 'prompt\_cache\_user%';
SELECT prompt_cache.attach();
DROP EXTENSION prompt_cache;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgname LIKE 'prompt\_cache\_%';
CREATE EXTENSION prompt_cache;
DROP SCHEMA partitions CASCADE;
DROP ROLE regress_pc_part;
