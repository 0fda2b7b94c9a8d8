-- Where there is a builder nobody can put anything else than what it gives, and what is put hangs on what it has read.
CREATE TABLE notes (id int PRIMARY KEY, v text);
CREATE TABLE unwatched (v text);
INSERT INTO notes VALUES (1, 'one'), (2, NULL);
INSERT INTO unwatched VALUES ('u');
CREATE FUNCTION note(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE r text;
BEGIN
    PERFORM prompt_cache.depends_on('notes');
    CASE key
        WHEN 'fails' THEN RAISE division_by_zero;
        WHEN 'gap' THEN SELECT v INTO r FROM unwatched;
        WHEN 'itself' THEN r := prompt_cache.fetch('notes', key);
        WHEN 'slow' THEN PERFORM pg_sleep(60);
        ELSE SELECT v INTO r FROM notes WHERE id = CASE WHEN key ~ '^\d+$' THEN key::int END;
    END CASE;
    RETURN r;
END $$;
SELECT prompt_cache.create_namespace('notes', 'note(text)', ttl => '1 h'), prompt_cache.watch('notes', 'notes', 'id');
CREATE ROLE regress_pc_filler;
GRANT USAGE ON SCHEMA prompt_cache TO regress_pc_filler;
SELECT prompt_cache.allow('regress_pc_filler', 'notes');
GRANT EXECUTE ON FUNCTION prompt_cache.lease, prompt_cache.put, prompt_cache.forget TO regress_pc_filler;
CREATE FUNCTION look(k text, OUT found boolean, OUT exact boolean) LANGUAGE sql STABLE AS $$
    SELECT g.found, CASE WHEN g.found THEN g.value IS NOT DISTINCT FROM prompt_cache.rebuild('notes', k) END FROM prompt_cache.get('notes', k) g
$$;

-- Poison, by who may put: a text, NULL for a text, a text for NULL, with a lease, under a key of its own.
SET ROLE regress_pc_filler;
SELECT prompt_cache.put('notes', '1', 'poison'), prompt_cache.put('notes', '1', 'one '), prompt_cache.put('notes', '1', NULL),
       prompt_cache.put('notes', '2', ''), prompt_cache.put('notes', 'x', 'poison'), prompt_cache.put('notes', '1', 'poison', ttl => '0', tags => '{a}');
SELECT prompt_cache.put('notes', '1', 'poison', lease => prompt_cache.lease('notes', '1'));
SELECT prompt_cache.get('notes', '1'), prompt_cache.get('notes', '2'), prompt_cache.get('notes', 'x');
-- The truth, also NULL; with a lease, and with one that is none.
SELECT prompt_cache.put('notes', '1', 'one'), prompt_cache.put('notes', '2', NULL), prompt_cache.put('notes', 'x', NULL);
SELECT prompt_cache.get('notes', '1'), prompt_cache.get('notes', '2'), prompt_cache.get('notes', 'x');
SELECT prompt_cache.put('notes', '1', 'one', lease => prompt_cache.lease('notes', '1')), prompt_cache.put('notes', '1', 'one', lease => 1);
RESET ROLE;
SELECT * FROM prompt_cache.verify();

-- It dies with what its builder has named and read, and with the tags of the put; it lives no longer than the namespace says.
SELECT prompt_cache.forget_tag('notes');
SELECT * FROM look('1');
SELECT prompt_cache.put('notes', '1', 'one', tags => '{mine}');
SELECT prompt_cache.forget_tag('mine');
SELECT * FROM look('1');
SELECT prompt_cache.put('notes', '1', 'one', ttl => '0');
SELECT * FROM look('1');
SELECT expires_at < now() + '61 min' AS ends FROM prompt_cache.entries WHERE namespace = 'notes' AND key = '1';
UPDATE notes SET v = 'uno' WHERE id = 1;
SELECT * FROM look('1');
BEGIN;
SELECT prompt_cache.put('notes', '1', 'uno');
SELECT prompt_cache.forget_tag('notes');
COMMIT;
SELECT * FROM look('1');
-- After a rollback to a savepoint what is true can still be put: nothing that was read before counts.
BEGIN;
SAVEPOINT s;
UPDATE notes SET v = 'never' WHERE id = 1;
ROLLBACK TO s;
SELECT prompt_cache.put('notes', '1', 'never'), prompt_cache.put('notes', '1', 'uno');
COMMIT;
SELECT * FROM look('1');

-- A builder that fails, needs itself or reads what nothing watches: false, and no error. A cancelled one is an error.
SELECT prompt_cache.put('notes', 'fails', 'x'), prompt_cache.put('notes', 'itself', 'x');
SELECT prompt_cache.put('notes', 'gap', 'u');
SELECT * FROM prompt_cache.get('notes', 'gap');
SET statement_timeout = '200ms';
SELECT prompt_cache.put('notes', 'slow', 'x');
RESET statement_timeout;

-- A builder that puts or takes a lease makes nothing that could be kept.
CREATE FUNCTION putting(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT CASE key WHEN 'put' THEN prompt_cache.put('notes', '1', 'uno')::text ELSE (prompt_cache.lease('notes', '9') IS NULL)::text END $$;
SELECT prompt_cache.create_namespace('putting', 'putting(text)');
SELECT prompt_cache.fetch('putting', 'put'), prompt_cache.fetch('putting', 'lease');
SELECT key FROM prompt_cache.entries WHERE namespace = 'putting';

SELECT prompt_cache.drop_namespace('putting'), prompt_cache.drop_namespace('notes');
DROP TABLE notes, unwatched;
DROP FUNCTION look, putting, note;
REVOKE ALL ON SCHEMA prompt_cache FROM regress_pc_filler;
DROP OWNED BY regress_pc_filler;
DROP ROLE regress_pc_filler;
