-- What a transaction sees of its own changes, and what it may use and fill meanwhile.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA transactions;
SET search_path = transactions;
\set VERBOSITY terse

CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);
CREATE TABLE messages (id serial PRIMARY KEY, user_id bigint, body text);
INSERT INTO tenants VALUES (1, 'T1'), (2, 'T2');
INSERT INTO users SELECT u, 1 + u % 2, 'u' || u FROM generate_series(1, 50) u;
SELECT prompt_cache.attach();

-- Tier, last word of the prompt, and the oracle: the same text as a rebuild under the same snapshot.
CREATE FUNCTION look(id bigint) RETURNS TABLE (source text, ends text, exact boolean) LANGUAGE sql STABLE AS $$
    SELECT g.source, substring(g.prompt FROM '[^\n]*$'), g.prompt IS NOT DISTINCT FROM prompt_cache.build(id)
      FROM prompt_cache.get_or_build(id) g
$$;
CREATE FUNCTION wrong() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM users u, look(u.user_id) l WHERE NOT l.exact';
SELECT wrong();

-- Its own uncommitted edit; the rollback takes nothing out of memory.
BEGIN;
UPDATE users SET system_prompt = 'mine' WHERE user_id = 42;
SELECT * FROM look(42);
SELECT * FROM look(42);
SELECT * FROM look(43);
ROLLBACK;
SELECT * FROM look(42);

-- Savepoints.
BEGIN;
SAVEPOINT a;
UPDATE users SET system_prompt = 'a' WHERE user_id = 42;
SELECT ends, exact FROM look(42);
SAVEPOINT b;
UPDATE users SET system_prompt = 'b' WHERE user_id = 42;
SELECT ends, exact FROM look(42);
ROLLBACK TO b;
SELECT ends, exact FROM look(42);
ROLLBACK TO a;
SELECT ends, exact FROM look(42);
UPDATE users SET system_prompt = 'c' WHERE user_id = 42;
RELEASE a;
SELECT ends, exact FROM look(42);
COMMIT;
SELECT * FROM look(42);
SELECT * FROM look(42);

-- Another table written: hits, and fills what it missed; for later transactions too.
BEGIN;
INSERT INTO messages (user_id, body) VALUES (42, 'hello');
SELECT * FROM look(42);
COMMIT;
SELECT prompt_cache.invalidate_user(42);
BEGIN;
INSERT INTO messages (user_id, body) VALUES (42, 'hello');
SELECT * FROM look(42);
SELECT * FROM look(42);
ROLLBACK;
SELECT * FROM look(42);

-- A tenant's edit; a user's move; the application prompt; an invalidation: own view first, nothing after rollback.
BEGIN;
UPDATE tenants SET system_prompt = 'T1 mine' WHERE id = 1;
UPDATE users SET tenant_id = 1, system_prompt = NULL WHERE user_id = 3;
SELECT * FROM look(3);
SELECT * FROM look(5);
SELECT prompt_cache.set_application_prompt('app mine');
SELECT prompt_cache.prompt(3) LIKE 'app mine%', exact FROM look(3);
SELECT wrong();
DELETE FROM users WHERE user_id = 4;
SELECT source, exact, ends IS NULL AS gone FROM look(4);
INSERT INTO users VALUES (4, NULL, 'again'), (51, NULL, 'new');
SELECT * FROM look(4);
SELECT * FROM look(51);
ROLLBACK;
SELECT look.source, count(*), bool_and(exact) AS exact FROM users, look(user_id) GROUP BY look.source;

-- REPEATABLE READ keeps its view, hits with it, and sees its own edit.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM look(42);
UPDATE users SET system_prompt = 'rr' WHERE user_id = 42;
SELECT ends, exact FROM look(42);
COMMIT;
SELECT ends, exact FROM look(42);
SELECT source FROM look(42);

-- SERIALIZABLE goes round the cache; SERIALIZABLE READ ONLY DEFERRABLE need not.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM look(42);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
SELECT * FROM look(42);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT * FROM look(42);
COMMIT;
-- A transaction that has written is none, whatever it says now.
BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE DEFERRABLE;
INSERT INTO messages (user_id, body) VALUES (42, 'written');
SET TRANSACTION READ ONLY;
SELECT * FROM look(42);
COMMIT;

-- READ ONLY: reading works, miss or hit; changing does not.
SELECT prompt_cache.invalidate_user(42);
BEGIN READ ONLY;
SELECT * FROM look(42);
SELECT * FROM look(42);
SAVEPOINT s;
SELECT prompt_cache.invalidate_user(42);
ROLLBACK TO s;
SELECT prompt_cache.clear();
ROLLBACK TO s;
SELECT prompt_cache.flush();
ROLLBACK;
SELECT * FROM look(42);
-- A write, then SET TRANSACTION READ ONLY: the change is still known.
BEGIN;
UPDATE users SET system_prompt = 'before read only' WHERE user_id = 42;
SET TRANSACTION READ ONLY;
SELECT ends, exact FROM look(42);
COMMIT;
SELECT ends, exact FROM look(42);

-- A failed transaction, and a cursor opened before the edit.
BEGIN;
DECLARE c CURSOR FOR SELECT prompt_cache.prompt(user_id) = prompt_cache.build(user_id) AS exact FROM users WHERE user_id BETWEEN 41 AND 43;
FETCH 1 FROM c;
UPDATE users SET system_prompt = 'after open' WHERE user_id BETWEEN 40 AND 44;
FETCH ALL FROM c;
SELECT count(*) FROM generate_series(40, 44) u, look(u) l WHERE l.ends = 'after open' AND l.exact;
SELECT 1 / 0;
COMMIT;
SELECT * FROM look(42);
SELECT wrong();

DROP SCHEMA transactions CASCADE;
