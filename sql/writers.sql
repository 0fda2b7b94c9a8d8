-- Every way to change a row, and reads in the middle of a statement that is still writing.
SET client_min_messages = warning;
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE SCHEMA writers;
SET search_path = writers;
\set VERBOSITY terse

CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint REFERENCES tenants ON UPDATE CASCADE ON DELETE SET NULL, system_prompt text);
CREATE TABLE seen (n serial, what text, user_id bigint, prompt text, exact boolean);
INSERT INTO tenants SELECT t, 'T' || t FROM generate_series(1, 5) t;
INSERT INTO users SELECT u, 1 + u % 5, 'u' || u FROM generate_series(1, 200) u;
SELECT prompt_cache.attach();

CREATE FUNCTION look(id bigint) RETURNS TABLE (source text, ends text, exact boolean) LANGUAGE sql STABLE AS $$
    SELECT g.source, substring(g.prompt FROM '[^\n]*$'), g.prompt IS NOT DISTINCT FROM prompt_cache.build(id)
      FROM prompt_cache.get_or_build(id) g
$$;
CREATE FUNCTION wrong() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM generate_series(0, 210) u, look(u) l WHERE NOT l.exact
$$;
-- Volatile: each call has a snapshot of its own that sees what the statement has written so far.
CREATE FUNCTION look_now(what text, id bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO seen (what, user_id, prompt, exact) SELECT what, id, l.ends, l.exact FROM look(id) l;
    RETURN (SELECT exact FROM seen ORDER BY n DESC LIMIT 1);
END
$$;
CREATE FUNCTION look_in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM look_now(TG_NAME, coalesce(NEW.user_id, OLD.user_id));
    RETURN coalesce(NEW, OLD);
END
$$;
SELECT wrong();

-- RETURNING a volatile function; a volatile function in the SET of later rows.
UPDATE users SET system_prompt = 'returning' WHERE user_id = 42 RETURNING look_now('returning', 42);
SELECT ends, exact FROM look(42);
UPDATE users SET system_prompt = 'set ' || look_now('set', 11) WHERE user_id IN (11, 12, 13);
DELETE FROM users WHERE user_id = 13 RETURNING look_now('delete', 13);
INSERT INTO users VALUES (13, 1, 'inserted') RETURNING look_now('insert', 13);
UPDATE tenants SET system_prompt = 'T1 returning' WHERE id = 1 RETURNING look_now('tenant', 5);
SELECT what, user_id, prompt, exact FROM seen ORDER BY n;
SELECT wrong();

-- Triggers before ours and after ours, by row and by statement.
TRUNCATE seen;
CREATE TRIGGER a_before BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION look_in_trigger();
CREATE TRIGGER a_earlier AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION look_in_trigger();
CREATE TRIGGER z_later AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION look_in_trigger();
UPDATE users SET system_prompt = 'trigger' WHERE user_id IN (42, 43);
SELECT what, user_id, prompt, exact FROM seen ORDER BY user_id, n;
DROP TRIGGER a_before ON users;
-- A BEFORE trigger that changes what is stored.
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.system_prompt := upper(NEW.system_prompt); RETURN NEW; END';
CREATE TRIGGER shout BEFORE UPDATE OF tenant_id ON users FOR EACH ROW EXECUTE FUNCTION shout();
UPDATE users SET tenant_id = tenant_id WHERE user_id = 44;
SELECT ends, exact FROM look(44);
DROP TRIGGER shout ON users;

-- Referential actions: the users change because the tenant does, and their triggers read.
TRUNCATE seen;
UPDATE tenants SET id = 50 WHERE id = 5;
DELETE FROM tenants WHERE id = 50;
SELECT bool_and(exact) AS exact, count(*) FROM seen;
SELECT wrong();
DROP TRIGGER a_earlier ON users;
DROP TRIGGER z_later ON users;

-- Data-modifying CTEs: the parts see the snapshot of the start, volatile functions what was written.
TRUNCATE seen;
WITH w AS (UPDATE users SET system_prompt = 'cte' WHERE user_id = 42 RETURNING user_id)
SELECT look_now('cte', user_id), prompt_cache.prompt(user_id) = prompt_cache.build(user_id) AS same FROM w;
WITH d AS (DELETE FROM users WHERE user_id = 41), i AS (INSERT INTO users VALUES (201, 1, 'cte'))
SELECT look_now('cte', 41), prompt_cache.prompt(41) IS NOT DISTINCT FROM prompt_cache.build(41) AS same;
SELECT what, user_id, prompt, exact FROM seen ORDER BY n;
SELECT wrong();

-- COPY, MERGE, ON CONFLICT, UPDATE FROM, EXPLAIN ANALYZE, EXECUTE.
CREATE TRIGGER a_copy AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION look_in_trigger();
TRUNCATE seen;
SELECT * FROM look(202);
COPY users FROM STDIN;
202	1	copied
203	\N	copied too
\.
SELECT what, user_id, prompt, exact FROM seen ORDER BY n;
SELECT * FROM look(202);
DROP TRIGGER a_copy ON users;
MERGE INTO users u USING (VALUES (1, 'merged'), (204, 'merged'), (2, NULL)) v(id, p) ON u.user_id = v.id
 WHEN MATCHED AND v.p IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET system_prompt = v.p
 WHEN NOT MATCHED THEN INSERT VALUES (v.id, 2, v.p);
SELECT id, l.* FROM unnest('{1,2,204}'::bigint[]) id, look(id) l;
INSERT INTO users VALUES (1, 1, 'x'), (205, 1, 'conflict') ON CONFLICT (user_id) DO UPDATE SET system_prompt = 'conflict';
INSERT INTO users VALUES (1, 1, 'x') ON CONFLICT DO NOTHING;
SELECT id, l.* FROM unnest('{1,205}'::bigint[]) id, look(id) l;
DO $$ BEGIN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF) UPDATE users SET system_prompt = ''explained'' WHERE user_id = 3'; END $$;
SELECT * FROM look(3);
PREPARE change AS UPDATE users SET system_prompt = $2 WHERE user_id = $1;
EXECUTE change(3, 'executed');
SELECT * FROM look(3);
UPDATE users u SET system_prompt = 'from' FROM tenants t WHERE t.id = u.tenant_id AND t.id = 2;
SELECT wrong();

-- More than 64 subtransactions, half of them rolled back.
DO $$
BEGIN
    FOR i IN 1..150 LOOP
        BEGIN
            UPDATE users SET system_prompt = 'sub ' || i WHERE user_id = i;
            IF NOT (SELECT exact FROM look(i)) THEN RAISE WARNING 'wrong in %', i; END IF;
            IF i % 2 = 0 THEN RAISE EXCEPTION 'back'; END IF;
        EXCEPTION WHEN raise_exception THEN
            IF NOT (SELECT exact FROM look(i)) THEN RAISE WARNING 'wrong after %', i; END IF;
        END;
    END LOOP;
END
$$;
SELECT wrong(), count(*) FILTER (WHERE system_prompt LIKE 'sub%') AS kept FROM users;

-- Replica role and disabled ordinary triggers do not hide a change.
SET session_replication_role = replica;
UPDATE users SET system_prompt = 'replica' WHERE user_id = 42;
UPDATE tenants SET system_prompt = 'T1 replica' WHERE id = 1;
RESET session_replication_role;
SELECT ends, exact FROM look(42);
SELECT wrong();

-- What a client asks of its session after a write is the client's: lastval(), the row count, GET DIAGNOSTICS, FOUND.
CREATE SEQUENCE ids START 5000;
INSERT INTO users VALUES (nextval('ids'), 1, 'lastval'), (nextval('ids'), 1, 'lastval') RETURNING user_id;
SELECT lastval(), prompt_cache.prompt(lastval()) LIKE '%lastval' AS found;
DROP SCHEMA writers CASCADE;
