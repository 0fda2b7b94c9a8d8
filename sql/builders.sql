-- Builders: what they fetch, name and read; recursion; errors; the settings and rights they run with.
CREATE TABLE roles (id int PRIMARY KEY, name text);
CREATE TABLE role_permissions (role_id int, permission text, PRIMARY KEY (role_id, permission));
CREATE TABLE user_roles (user_id bigint, role_id int, PRIMARY KEY (user_id, role_id));
INSERT INTO roles VALUES (1, 'reader'), (2, 'writer'), (3, 'admin');
INSERT INTO role_permissions VALUES (1, 'read'), (2, 'read'), (2, 'write'), (3, 'all');
INSERT INTO user_roles VALUES (42, 1), (42, 2), (43, 1), (44, 3);
CREATE FUNCTION look(space text, k text, OUT source text, OUT value text, OUT exact boolean) LANGUAGE sql STABLE AS $$
    SELECT f.source, f.value, f.value IS NOT DISTINCT FROM prompt_cache.rebuild(space, k) FROM prompt_cache.fetch_many(space, ARRAY[k]) f
$$;

-- Nested: a role's permissions are fetched by each user's. The outer entry hangs on the inner one's rows, also when the inner one is a hit.
CREATE FUNCTION role_perms(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(permission, ',' ORDER BY permission) FROM role_permissions WHERE role_id = key::int
$$;
CREATE FUNCTION user_perms(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    r int; all_of text := '';
BEGIN
    FOR r IN SELECT role_id FROM user_roles WHERE user_id = key::bigint ORDER BY 1 LOOP
        all_of := all_of || '[' || prompt_cache.fetch('role_permissions', r::text) || ']';
    END LOOP;
    RETURN all_of;
END
$$;
SELECT prompt_cache.create_namespace('role_permissions', 'role_perms(text)'), prompt_cache.watch('role_permissions', 'role_permissions', 'role_id');
SELECT prompt_cache.create_namespace('permissions', 'user_perms(text)', '10 min'), prompt_cache.watch('user_roles', 'permissions', 'user_id');
SELECT look('permissions', '42'), look('permissions', '43'), look('permissions', '44'), look('permissions', '42');
INSERT INTO role_permissions VALUES (1, 'list');
SELECT look('permissions', '42'), look('permissions', '43'), look('permissions', '44');
INSERT INTO user_roles VALUES (44, 1);
SELECT look('permissions', '42'), look('permissions', '44');
SELECT prompt_cache.forget('role_permissions', '2');
SELECT look('permissions', '42'), look('permissions', '43');
SELECT prompt_cache.forget_prefix('role_permissions', '1');
SELECT look('permissions', '43');
SELECT prompt_cache.forget_namespace('role_permissions');
SELECT look('permissions', '43'), look('permissions', '43');
SELECT namespace, unwatched FROM prompt_cache.namespaces ORDER BY 1;

-- Tags of the builder's own choice.
CREATE FUNCTION tagged(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM prompt_cache.depends_on('model/' || key);
    PERFORM prompt_cache.depends_on('provider/x');
    RETURN key;
END
$$;
SELECT prompt_cache.create_namespace('tagged', 'tagged(text)');
SELECT look('tagged', 'a'), look('tagged', 'b');
SELECT prompt_cache.forget_tag('model/a');
SELECT look('tagged', 'a'), look('tagged', 'b');
BEGIN;
SELECT prompt_cache.forget_tag('provider/x');
SELECT look('tagged', 'a'), look('tagged', 'b');
ROLLBACK;
SELECT look('tagged', 'a'), look('tagged', 'b');

-- A builder that reaches itself, alone or by way of another; the value of another key of its own is no circle.
CREATE FUNCTION circle(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT prompt_cache.fetch('circle', key) $$;
CREATE FUNCTION ping(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT prompt_cache.fetch('pong', key) $$;
CREATE FUNCTION pong(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT prompt_cache.fetch('ping', key) $$;
CREATE FUNCTION down(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN key = '0' THEN 'ground' ELSE key || ',' || prompt_cache.fetch('down', (key::int - 1)::text) END
$$;
SELECT count(prompt_cache.create_namespace(n, (n || '(text)')::regprocedure)) FROM unnest('{circle,ping,pong,down}'::text[]) n;
\set VERBOSITY sqlstate
SELECT prompt_cache.fetch('circle', 'x');
SELECT prompt_cache.rebuild('circle', 'x');
SELECT prompt_cache.fetch('ping', 'x');
SELECT prompt_cache.fetch('down', '40');
\set VERBOSITY default
SELECT look('down', '5'), look('down', '5');

-- An error of the builder is passed on, and nothing is kept of it; caught inside a builder it does no harm.
CREATE TABLE settings (label text PRIMARY KEY, value text);
CREATE FUNCTION failing(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF (SELECT value FROM settings WHERE label = 'fail') = 'yes' THEN RAISE EXCEPTION 'no %', key USING ERRCODE = 'PC001'; END IF;
    RETURN 'fine';
END
$$;
CREATE FUNCTION catching(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN prompt_cache.fetch('failing', key);
EXCEPTION WHEN SQLSTATE 'PC001' THEN
    RETURN 'caught, ' || (SELECT count(*) FROM roles);
END
$$;
SELECT prompt_cache.create_namespace('failing', 'failing(text)'), prompt_cache.watch('settings', 'failing');
SELECT prompt_cache.create_namespace('catching', 'catching(text)'), prompt_cache.watch('roles', 'catching');
INSERT INTO settings VALUES ('fail', 'yes');
SELECT prompt_cache.fetch('failing', 'k');
SELECT look('catching', 'k');
UPDATE settings SET value = 'no';
SELECT look('failing', 'k'), look('failing', 'k'), look('catching', 'k');

-- No silent gap: dynamic SQL through a view, a table that is read on one branch only, a catalog. Told once by each build that sees it.
CREATE TABLE secret (v text);
CREATE VIEW of_secret AS SELECT v FROM secret;
CREATE FUNCTION sneaky(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    r text;
BEGIN
    EXECUTE 'SELECT string_agg(v, '','') FROM of_secret' INTO r;
    IF key = 'branch' THEN r := (SELECT count(*) FROM roles); END IF;
    RETURN r;
END
$$;
SELECT prompt_cache.create_namespace('sneaky', 'sneaky(text)', '2 s');
SELECT look('sneaky', 'plain');
SELECT unwatched FROM prompt_cache.namespaces WHERE namespace = 'sneaky';
SELECT look('sneaky', 'branch');
SELECT unwatched FROM prompt_cache.namespaces WHERE namespace = 'sneaky';
SELECT r FROM jsonb_array_elements_text(prompt_cache.health() -> 'reasons') r WHERE r ~ 'sneaky';
INSERT INTO secret VALUES ('gap');
SELECT f.source, f.value FROM prompt_cache.fetch_many('sneaky', '{plain}') f;
SELECT pg_sleep(2.2);
SELECT look('sneaky', 'plain');
SELECT prompt_cache.watch('secret', 'sneaky'), prompt_cache.watch('roles', 'sneaky');
SELECT look('sneaky', 'plain'), look('sneaky', 'branch'), look('sneaky', 'plain');
INSERT INTO secret VALUES ('none');
SELECT look('sneaky', 'plain');
CREATE OR REPLACE VIEW of_secret AS SELECT upper(v) AS v FROM secret;
SELECT look('sneaky', 'plain'), look('sneaky', 'plain');
SELECT unwatched FROM prompt_cache.namespaces WHERE namespace = 'sneaky';

-- The caller's settings and rights do not get in.
CREATE FUNCTION setting_of(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws(' ', now() IS NOT NULL, timestamptz '2026-01-01 00:00+00', 1.1::float8, '\x00'::bytea, interval '1 day', current_user = session_user)
$$;
SELECT prompt_cache.create_namespace('settings', 'setting_of(text)');
SELECT prompt_cache.rebuild('settings', 'a') AS plain \gset
SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = 0; SET bytea_output = 'escape'; SET search_path = pg_catalog;
SELECT prompt_cache.rebuild('settings', 'a') = :'plain' AS same, current_setting('TimeZone') AS mine;
RESET ALL;

-- A prompt inside of a builder: the value hangs on its layers.
CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id int, system_prompt text);
CREATE TABLE tenants (id int PRIMARY KEY, system_prompt text);
INSERT INTO tenants VALUES (1, 'T');
INSERT INTO users VALUES (42, 1, 'U');
SELECT prompt_cache.attach();
CREATE FUNCTION config(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT replace(prompt_cache.prompt(key::bigint), E'\n', '/') || '+' || coalesce(prompt_cache.application_prompt(), '')
$$;
SELECT prompt_cache.create_namespace('config', 'config(text)');
SELECT look('config', '42'), (look('config', '42')).source;
UPDATE tenants SET system_prompt = 'T2';
SELECT look('config', '42');
UPDATE users SET system_prompt = 'U2';
SELECT look('config', '42');
SELECT prompt_cache.set_application_prompt('A');
SELECT look('config', '42'), (look('config', '42')).source;
SELECT unwatched FROM prompt_cache.namespaces WHERE namespace = 'config';
SELECT count(*) FROM prompt_cache.verify();
SELECT prompt_cache.explain('config', '42');
SELECT count(prompt_cache.drop_namespace(n.namespace)) FROM (SELECT namespace FROM prompt_cache.namespaces) n;
SELECT prompt_cache.set_application_prompt(NULL), prompt_cache.detach();
DROP TABLE roles, role_permissions, user_roles, settings, secret, users, tenants CASCADE;
DROP FUNCTION role_perms, user_perms, tagged, public.circle(text), ping, pong, down, failing, catching, sneaky, setting_of, config;
DROP FUNCTION look(text, text);
