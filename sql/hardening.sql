-- What somebody could do to the cache, by malice or by hand, and what it must not lead to.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS prompt_cache CASCADE;
CREATE EXTENSION prompt_cache;
CREATE SCHEMA hardening;
SET search_path = hardening;
CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id text, system_prompt text);
INSERT INTO tenants VALUES (7, 'seven');
INSERT INTO users SELECT id, '7', 'user ' || id FROM generate_series(1, 5) id;
SELECT prompt_cache.attach();
SELECT count(prompt_cache.prompt(id)) FROM generate_series(1, 5) id;
SELECT prompt_cache.flush();

\echo a role that may attach() cannot attach what it does not own, nor replace the wiring of others
CREATE ROLE regress_pc_mallory;
CREATE SCHEMA regress_pc_mallory AUTHORIZATION regress_pc_mallory;
GRANT USAGE ON SCHEMA prompt_cache, hardening TO regress_pc_mallory;
GRANT EXECUTE ON FUNCTION prompt_cache.attach, prompt_cache.detach TO regress_pc_mallory;
SET ROLE regress_pc_mallory;
CREATE TABLE regress_pc_mallory.users (user_id bigint PRIMARY KEY, system_prompt text);
SELECT prompt_cache.attach('hardening.users', NULL);
SELECT prompt_cache.attach('regress_pc_mallory.users', NULL);
SELECT prompt_cache.detach();

\echo nor by code of its own that a superuser runs
CREATE FUNCTION regress_pc_mallory.trap(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF session_user <> 'regress_pc_mallory' THEN
        BEGIN
            PERFORM prompt_cache.attach('hardening.tenants', NULL);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING '% %', SQLSTATE, SQLERRM;
        END;
    END IF;
    RETURN a;
END $$;
CREATE TABLE regress_pc_mallory.t AS SELECT 1 AS a;
RESET ROLE;
CREATE INDEX ON regress_pc_mallory.t (regress_pc_mallory.trap(a));
SELECT users, tenants FROM prompt_cache.attachments;

\echo a row that adds up to nonsense is not used
ALTER TABLE prompt_cache.user_prompt_cache DROP CONSTRAINT user_prompt_cache_check;
UPDATE prompt_cache.user_prompt_cache SET application_length = application_length + tenant_length + 4, tenant_length = -4 WHERE user_id = 3;
SET prompt_cache.memory = off;
SELECT source, prompt = prompt_cache.build(3) AS exact FROM prompt_cache.get_or_build(3);
RESET prompt_cache.memory;

\echo a change without its proof does not go through
ALTER TABLE prompt_cache.tag_nonce RENAME TO elsewhere;
UPDATE users SET system_prompt = 'unproved' WHERE user_id = 4;
ALTER TABLE prompt_cache.elsewhere RENAME TO tag_nonce;
SELECT source, prompt = prompt_cache.build(4) AS exact FROM prompt_cache.get_or_build(4);
ALTER SCHEMA prompt_cache RENAME TO elsewhere;
UPDATE users SET system_prompt = 'unproved' WHERE user_id = 4;
ALTER SCHEMA elsewhere RENAME TO prompt_cache;
SELECT source, prompt = prompt_cache.build(4) AS exact FROM prompt_cache.get_or_build(4);

\echo a user that cannot be built is an error of his own, and no reason to save and verify nothing
SELECT count(prompt_cache.prompt(id)) FROM generate_series(1, 5) id;
UPDATE users SET tenant_id = 'acme' WHERE user_id = 5;
SELECT prompt_cache.prompt(5);
SELECT prompt_cache.flush() >= 0 AS flushed;
SELECT * FROM prompt_cache.verify();

DROP SCHEMA hardening, regress_pc_mallory CASCADE;
REVOKE ALL ON SCHEMA prompt_cache FROM regress_pc_mallory;
REVOKE ALL ON FUNCTION prompt_cache.attach, prompt_cache.detach FROM regress_pc_mallory;
DROP ROLE regress_pc_mallory;
