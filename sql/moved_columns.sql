-- A watch names columns, and so does attach(). Where another column has taken a name, nobody can say which one was meant: a view and a
-- BEGIN ATOMIC body go on reading the column that they were made for, a query in text reads the one of the name.
DROP EXTENSION prompt_cache;   -- topics share one database: begin with a fresh extension
CREATE EXTENSION prompt_cache;
CREATE FUNCTION look(space text, k text, OUT source text, OUT exact boolean) LANGUAGE sql STABLE AS $$
    SELECT f.source, f.value IS NOT DISTINCT FROM prompt_cache.rebuild(space, k) FROM prompt_cache.fetch_many(space, ARRAY[k]) f
$$;
CREATE VIEW state AS SELECT namespace, sound, problem FROM prompt_cache.namespaces ORDER BY 1;
CREATE FUNCTION reasons() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT prompt_cache.health() ->> 'status' UNION ALL SELECT jsonb_array_elements_text(prompt_cache.health() -> 'reasons')
$$;
CREATE TABLE acc (gone int, id int PRIMARY KEY, uid int UNIQUE NOT NULL, title text, note text);
ALTER TABLE acc DROP COLUMN gone;
INSERT INTO acc SELECT i, 100 + i, 'title ' || i, 'note' FROM generate_series(1, 3) i;
CREATE VIEW accounts AS SELECT id, title FROM acc;
CREATE FUNCTION by_view(key text) RETURNS text STABLE LANGUAGE sql AS $$ SELECT title FROM accounts WHERE id = key::int $$;
CREATE FUNCTION by_body(key text) RETURNS text STABLE LANGUAGE sql BEGIN ATOMIC SELECT title FROM acc WHERE id = key::int; END;
CREATE FUNCTION by_name(key text) RETURNS text STABLE LANGUAGE sql AS $$ SELECT title FROM acc WHERE id = key::int $$;
CREATE FUNCTION by_expression(key text) RETURNS text STABLE LANGUAGE sql BEGIN ATOMIC SELECT title FROM acc WHERE id * 2 = key::int; END;
CREATE FUNCTION by_columns(key text) RETURNS text STABLE LANGUAGE sql BEGIN ATOMIC SELECT string_agg(title, ',' ORDER BY id) FROM acc; END;
CREATE TABLE spaces AS SELECT unnest('{by_view,by_body,by_name,by_expression,by_columns}'::text[]) AS n;
SELECT count(prompt_cache.create_namespace(n, (n || '(text)')::regprocedure)) FROM spaces;
SELECT count(prompt_cache.watch('acc', n, 'id')) FROM spaces WHERE n ~ 'view|body|name';
SELECT prompt_cache.watch('acc', 'by_expression', 'id * 2'), prompt_cache.watch('acc', 'by_columns', columns => '{id,title}');
SELECT n, look(n, '2'), look(n, '2') FROM spaces;
SELECT * FROM state;

-- Another name alone: every change concerns every entry, which is too much and not too little.
ALTER TABLE acc RENAME id TO renamed;
SELECT n, look(n, '2') FROM spaces WHERE n <> 'by_name';
UPDATE acc SET title = 'changed' WHERE renamed = 2;
SELECT n, look(n, '2') FROM spaces WHERE n <> 'by_name';
ALTER TABLE acc RENAME renamed TO id;
SELECT * FROM state;
SELECT n, look(n, '2'), look(n, '2') FROM spaces;

-- The usual migration to another primary key.
BEGIN;
ALTER TABLE acc RENAME id TO legacy_id;
ALTER TABLE acc RENAME uid TO id;
SELECT n, look(n, '2') FROM spaces;
COMMIT;
SELECT n, look(n, '2'), look(n, '2') FROM spaces;
UPDATE acc SET title = 'new ' || legacy_id;
SELECT n, look(n, '2') FROM spaces;
SELECT * FROM state;
SELECT reasons();
SELECT prompt_cache.explain('by_view', '2');

-- The statements: the column that it was, by its name of now; or the one that has the name.
CREATE FUNCTION follow(problem text, which text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE substring(problem FROM 'to mean ' || which || ': (.*?)( to mean|$)');
    RETURN 'done';
END
$$;
BEGIN;
SELECT namespace, follow(problem, 'the one that has the name') FROM state;
SELECT * FROM state WHERE NOT sound;
ROLLBACK;
BEGIN;
SELECT namespace, follow(problem, 'that one') FROM state WHERE problem !~ '[.]{3}';
SELECT namespace FROM state WHERE NOT sound;
ROLLBACK;
SELECT prompt_cache.unwatch('acc', 'by_view'), prompt_cache.watch('acc', 'by_view', 'legacy_id');
SELECT prompt_cache.unwatch('acc', 'by_body'), prompt_cache.watch('acc', 'by_body', 'legacy_id');
SELECT prompt_cache.unwatch('acc', 'by_expression'), prompt_cache.watch('acc', 'by_expression', 'legacy_id * 2');
SELECT prompt_cache.unwatch('acc', 'by_columns'), prompt_cache.watch('acc', 'by_columns', columns => '{legacy_id,title}');
SELECT prompt_cache.watch('acc', 'by_name', 'id'), prompt_cache.watch('acc', 'by_name', 'id') AS again;
SELECT * FROM state;
SELECT n, look(n, '2'), look(n, '2'), look(n, '102') FROM spaces;
UPDATE acc SET title = 'newer ' || legacy_id;
SELECT n, look(n, '2'), look(n, '102') FROM spaces;
SELECT reasons();

-- Two columns that have changed places: both names are wrong.
SELECT prompt_cache.unwatch('acc', 'by_columns'), prompt_cache.watch('acc', 'by_columns', columns => '{legacy_id,title,note}'), prompt_cache.watch('acc', 'by_columns', 'note || title');
BEGIN;
ALTER TABLE acc RENAME title TO was_title;
ALTER TABLE acc RENAME note TO title;
ALTER TABLE acc RENAME was_title TO note;
SELECT * FROM state WHERE namespace = 'by_columns';
ROLLBACK;
SELECT * FROM state WHERE namespace = 'by_columns';

-- Where the old column is dropped nothing else than the name is left to be meant.
ALTER TABLE acc ADD COLUMN id_new bigint;
UPDATE acc SET id_new = id;
ALTER TABLE acc RENAME id TO id_old;
ALTER TABLE acc RENAME id_new TO id;
SELECT * FROM state WHERE NOT sound;
ALTER TABLE acc DROP COLUMN id_old;
SELECT look('by_name', '102'), look('by_name', '102');
UPDATE acc SET title = 'newest' WHERE id = 102;
SELECT look('by_name', '102'), look('by_name', '102');
SELECT * FROM state WHERE NOT sound;
SELECT count(prompt_cache.drop_namespace(namespace)) FROM prompt_cache.namespaces;
SELECT count(*) FROM prompt_cache.registered_column;

-- attach()
CREATE TABLE users (user_id bigint PRIMARY KEY, other bigint UNIQUE, tenant_id int, system_prompt text, draft text);
CREATE TABLE tenants (id int PRIMARY KEY, code int UNIQUE, system_prompt text);
INSERT INTO tenants VALUES (1, 11, 'T');
INSERT INTO users VALUES (42, 142, 1, 'U', 'D');
SELECT prompt_cache.attach(user_prompt => 'upper(system_prompt)');
SELECT (prompt_cache.get_or_build(42)).source, (prompt_cache.get_or_build(42)).source;
ALTER TABLE users RENAME draft TO was_draft;
SELECT (prompt_cache.get_or_build(42)).source, (prompt_cache.get_or_build(42)).source;
ALTER TABLE users RENAME system_prompt TO old_prompt;
ALTER TABLE users RENAME was_draft TO system_prompt;
ALTER TABLE tenants RENAME id TO old_id;
ALTER TABLE tenants RENAME code TO id;
SELECT (prompt_cache.get_or_build(42)).source, (prompt_cache.get_or_build(42)).source, prompt_cache.prompt(42) = prompt_cache.build(42) AS exact;
SELECT sound, problem FROM prompt_cache.attachments;
SELECT reasons();
BEGIN;
SELECT follow(problem, 'the one that has the name') FROM prompt_cache.attachments;
SELECT sound, problem FROM prompt_cache.attachments;
ROLLBACK;
SELECT prompt_cache.attach(user_prompt => 'upper(system_prompt)', tenant_key => 'old_id');
SELECT sound, problem FROM prompt_cache.attachments;
SELECT (prompt_cache.get_or_build(42)).source, (prompt_cache.get_or_build(42)).source, prompt_cache.prompt(42) = prompt_cache.build(42) AS exact;

-- What a dump leaves out is noted again, by housekeeping as by flush().
DELETE FROM prompt_cache.registered_column;
SELECT sound, problem FROM prompt_cache.attachments;
SELECT prompt_cache.flush() >= 0 AS flushed, (SELECT count(*) FROM prompt_cache.registered_column) AS columns;
SELECT count(*) FROM prompt_cache.registered_column;
ALTER TABLE users RENAME other TO spare;
ALTER TABLE users RENAME user_id TO other;
ALTER TABLE users RENAME spare TO user_id;
SELECT sound, problem FROM prompt_cache.attachments;
SELECT follow(problem, 'that one') FROM prompt_cache.attachments;
SELECT sound, user_key, user_prompt FROM prompt_cache.attachments;
SELECT prompt_cache.detach();
SELECT count(*) FROM prompt_cache.registered_column;
DROP FUNCTION by_view, by_body, by_name, by_expression, by_columns;
DROP VIEW state, accounts;
DROP TABLE acc, users, tenants, spaces;
DROP FUNCTION look, reasons, follow;
