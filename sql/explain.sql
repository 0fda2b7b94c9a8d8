-- explain(): what a lookup would do now and why.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS prompt_cache CASCADE;
CREATE EXTENSION prompt_cache;
CREATE SCHEMA explain_it;
SET search_path = explain_it;
CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);
SELECT * FROM prompt_cache.explain('prompt', '42');
SELECT prompt_cache.attach();
INSERT INTO tenants VALUES (7, 'seven');
INSERT INTO users VALUES (42, 7, 'old'), (43, NULL, 'no tenant');

\echo nothing is cached yet, and explain() itself stores nothing
SELECT * FROM prompt_cache.explain('prompt', '42');
SELECT * FROM prompt_cache.explain('prompt', '42');
SELECT count(*) FROM prompt_cache.entries;

SELECT prompt_cache.prompt(42) IS NOT NULL AS there;
SELECT * FROM prompt_cache.explain('prompt', '42');
SELECT prompt_cache.flush();
SET prompt_cache.memory = off;
SELECT * FROM prompt_cache.explain('prompt', '42');
RESET prompt_cache.memory;
UPDATE users SET system_prompt = 'new' WHERE user_id = 42;
SELECT * FROM prompt_cache.explain('prompt', '42');
BEGIN;
UPDATE tenants SET system_prompt = 'mine' WHERE id = 7;
SELECT * FROM prompt_cache.explain('prompt', '42');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM prompt_cache.explain('prompt', '42');
ROLLBACK;
SELECT * FROM prompt_cache.explain('prompt', '43');
SELECT * FROM prompt_cache.explain('prompt', '44');
ALTER TABLE users DISABLE TRIGGER ALL;
SELECT * FROM prompt_cache.explain('prompt', '42');
SELECT * FROM prompt_cache.explain('menus', '42');
SELECT * FROM prompt_cache.explain('prompt', 'x');
DROP SCHEMA explain_it CASCADE;
