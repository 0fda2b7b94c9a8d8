-- What else a chat backend caches, a call each: the "Recipes" of README.md. The oracle is fetch() = rebuild() after every kind of change.
CREATE TABLE tenants (id int PRIMARY KEY, name text NOT NULL, plan text NOT NULL);
CREATE TABLE users (id bigint PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, name text NOT NULL, email text, last_seen timestamptz);
CREATE TABLE roles (id int PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE role_permissions (role_id int REFERENCES roles ON DELETE CASCADE, permission text, PRIMARY KEY (role_id, permission));
CREATE TABLE user_roles (user_id bigint REFERENCES users ON DELETE CASCADE, role_id int REFERENCES roles ON DELETE CASCADE, PRIMARY KEY (user_id, role_id));
CREATE TABLE menus (id int PRIMARY KEY, title text NOT NULL, needs text, clicks bigint NOT NULL DEFAULT 0);
CREATE TABLE models (id text PRIMARY KEY, provider text NOT NULL, vision boolean NOT NULL, enabled boolean NOT NULL);
CREATE TABLE user_settings (user_id bigint REFERENCES users ON DELETE CASCADE, name text, value text, PRIMARY KEY (user_id, name));
INSERT INTO tenants VALUES (1, 'Acme', 'free'), (2, 'Globex', 'team');
INSERT INTO users SELECT u, 1 + u % 2, 'User ' || u, 'u' || u || '@example.org' FROM generate_series(1, 4) u;
INSERT INTO roles VALUES (1, 'reader'), (2, 'writer'), (3, 'admin');
INSERT INTO role_permissions VALUES (1, 'chat.read'), (2, 'chat.read'), (2, 'chat.write'), (3, 'admin');
INSERT INTO user_roles VALUES (1, 1), (2, 1), (2, 2), (3, 3);
INSERT INTO menus VALUES (1, 'Home', NULL), (2, 'Chat', 'chat.read'), (3, 'Edit', 'chat.write'), (4, 'Users', 'admin');
INSERT INTO models VALUES ('small', 'alpha', false, true), ('large', 'alpha', true, true), ('other', 'beta', true, false);
INSERT INTO user_settings VALUES (1, 'theme', 'dark'), (2, 'theme', 'light'), (2, 'language', 'fr');

-- Roles: a role with its permissions, 30 minutes, 200 entries
CREATE FUNCTION role_json(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('name', r.name, 'permissions', coalesce(
               (SELECT jsonb_agg(p.permission ORDER BY p.permission) FROM role_permissions p WHERE p.role_id = r.id), '[]'))
      FROM roles r WHERE r.id = key::int
$$;
SELECT prompt_cache.create_namespace('roles', 'role_json(text)', ttl => '30 min', max_entries => 200);
SELECT prompt_cache.watch('roles', 'roles', 'id'), prompt_cache.watch('role_permissions', 'roles', 'role_id');

-- Permissions: all that a user's roles allow, 10 minutes, 500 entries. What it fetches need not be watched again
CREATE FUNCTION user_permissions(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(DISTINCT permission, ',' ORDER BY permission)
      FROM user_roles ur, jsonb_array_elements_text(prompt_cache.fetch('roles', ur.role_id::text)::jsonb -> 'permissions') permission
     WHERE ur.user_id = key::bigint
$$;
SELECT prompt_cache.create_namespace('permissions', 'user_permissions(text)', ttl => '10 min', max_entries => 500);
SELECT prompt_cache.watch('user_roles', 'permissions', 'user_id');

-- Menus: what a user may see, 15 minutes, 500 entries. A menu concerns everybody, hence no key; a click nobody, hence the columns
CREATE FUNCTION user_menu(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(title, ' | ' ORDER BY id) FROM menus
     WHERE needs IS NULL OR needs = ANY (string_to_array(prompt_cache.fetch('permissions', key), ','))
$$;
SELECT prompt_cache.create_namespace('menus', 'user_menu(text)', ttl => '15 min', max_entries => 500);
SELECT prompt_cache.watch('menus', 'menus', columns => '{id,title,needs}');

-- Tenants and users: a row each, 5 minutes
CREATE FUNCTION tenant_json(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT to_jsonb(t) FROM tenants t WHERE id = key::int $$;
SELECT prompt_cache.create_namespace('tenants', 'tenant_json(text)', ttl => '5 min');
SELECT prompt_cache.watch('tenants', 'tenants', 'id');

CREATE FUNCTION user_json(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('id', id, 'tenant', tenant_id, 'name', name, 'email', email) FROM users WHERE id = key::bigint
$$;
SELECT prompt_cache.create_namespace('users', 'user_json(text)', ttl => '5 min');
SELECT prompt_cache.watch('users', 'users', 'id', '{tenant_id,name,email}');

-- Profiles: what a page shows of a user, 60 seconds
CREATE FUNCTION user_profile(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('%s <%s>, %s', u ->> 'name', u ->> 'email', prompt_cache.fetch('tenants', u ->> 'tenant')::jsonb ->> 'name')
      FROM CAST(prompt_cache.fetch('users', key) AS jsonb) u WHERE u IS NOT NULL
$$;
SELECT prompt_cache.create_namespace('profiles', 'user_profile(text)', ttl => '60 s');

-- Model lists: the key is the filter, 300 seconds
CREATE FUNCTION model_list(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(id, ',' ORDER BY id) FROM models
     WHERE jsonb_build_object('provider', provider, 'vision', vision, 'enabled', enabled) @> key::jsonb
$$;
SELECT prompt_cache.create_namespace('models', 'model_list(text)', ttl => '300 s');
SELECT prompt_cache.watch('models', 'models');

-- General: whatever else, 5 minutes, 1000 entries. The key says what it is, and an expression says which key a row concerns
CREATE FUNCTION general(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE split_part(key, '/', 1)
           WHEN 'seats' THEN (SELECT count(*) FROM users WHERE tenant_id = split_part(key, '/', 2)::int)::text
           WHEN 'role' THEN (SELECT id FROM roles WHERE name = split_part(key, '/', 2))::text END
$$;
SELECT prompt_cache.create_namespace('general', 'general(text)', ttl => '5 min', max_entries => 1000);
SELECT prompt_cache.watch('users', 'general', $$'seats/' || tenant_id$$, '{tenant_id}'), prompt_cache.watch('roles', 'general', $$'role/' || name$$, '{id}');

-- User configuration: memory 5 minutes and 500 entries, Redis 30 minutes
CREATE FUNCTION user_config(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT jsonb_object_agg(name, value) FROM user_settings WHERE user_id = key::bigint
$$;
SELECT prompt_cache.create_namespace('user_config', 'user_config(text)', ttl => '5 min', max_entries => 500, redis_ttl => '30 min');
SELECT prompt_cache.watch('user_settings', 'user_config', 'user_id');

-- What was built, how many came from memory, is all of it right?
CREATE FUNCTION look(OUT built text, OUT memory bigint, OUT exact boolean) LANGUAGE sql STABLE AS $$
    SELECT string_agg(n || ' ' || f.key, ', ') FILTER (WHERE f.source = 'built'), count(*) FILTER (WHERE f.source = 'memory'),
           bool_and(f.value IS NOT DISTINCT FROM prompt_cache.rebuild(n, f.key))
      FROM (VALUES ('roles', '{1,2,3,4}'::text[]), ('permissions', '{1,2,3,4}'), ('menus', '{1,2,3,4}'), ('tenants', '{1,2}'), ('users', '{1,2,3,4}'),
                   ('profiles', '{1,2,3,4}'), ('models', ARRAY['{}', '{"enabled": true}', '{"provider": "alpha", "vision": true}']),
                   ('general', '{seats/1,seats/2,role/admin,role/owner}'), ('user_config', '{1,2,3}')) v(n, keys), prompt_cache.fetch_many(n, keys) f
$$;
SELECT memory, exact FROM look();
SELECT * FROM look();
SELECT f.* FROM unnest('{permissions,menus,profiles,user_config}'::text[]) n, prompt_cache.fetch_many(n, '{2}') f;
SELECT namespace, ttl, max_entries, redis_ttl, watches, unwatched, sound FROM prompt_cache.namespaces ORDER BY 1;

-- A role's definition; a role granted; a user moved
INSERT INTO role_permissions VALUES (1, 'chat.search');
SELECT * FROM look();
UPDATE roles SET name = 'owner' WHERE id = 3;
SELECT * FROM look();
INSERT INTO user_roles VALUES (4, 2);
SELECT * FROM look();
UPDATE users SET tenant_id = 2 WHERE id = 2;
SELECT * FROM look();
DELETE FROM roles WHERE id = 2;
SELECT * FROM look();
-- A tenant, a menu, a model, a setting, a user that goes; what concerns nobody
UPDATE tenants SET name = 'Acme Inc.' WHERE id = 1;
SELECT * FROM look();
UPDATE menus SET title = 'Chats' WHERE id = 2;
SELECT * FROM look();
UPDATE models SET enabled = true WHERE id = 'other';
SELECT * FROM look();
UPDATE user_settings SET value = 'light' WHERE user_id = 1;
SELECT * FROM look();
DELETE FROM users WHERE id = 4;
SELECT * FROM look();
UPDATE users SET last_seen = now(); UPDATE menus SET clicks = clicks + 1;
SELECT * FROM look();

-- A configuration is written through: who reads it next finds it in memory
BEGIN;
INSERT INTO user_settings VALUES (2, 'model', 'large');
SELECT prompt_cache.put('user_config', '2', prompt_cache.rebuild('user_config', '2'));
COMMIT;
SELECT * FROM look();
SELECT prompt_cache.fetch('user_config', '2');
-- Undone; and changed after the put
BEGIN;
UPDATE user_settings SET value = 'blue' WHERE user_id = 2 AND name = 'theme';
SELECT prompt_cache.put('user_config', '2', prompt_cache.rebuild('user_config', '2'));
ROLLBACK;
SELECT * FROM look();
BEGIN;
UPDATE user_settings SET value = 'red' WHERE user_id = 2 AND name = 'theme';
SELECT prompt_cache.put('user_config', '2', prompt_cache.rebuild('user_config', '2'));
UPDATE user_settings SET value = 'green' WHERE user_id = 2 AND name = 'theme';
COMMIT;
SELECT * FROM look();
SELECT namespace, unwatched FROM prompt_cache.namespaces WHERE unwatched <> '{}' OR NOT sound;
SELECT count(prompt_cache.drop_namespace(n.namespace)) FROM (SELECT namespace FROM prompt_cache.namespaces) n;
DROP FUNCTION look;
DROP FUNCTION role_json, user_permissions, user_menu, tenant_json, user_json, user_profile, model_list, general, user_config;
DROP TABLE tenants, users, roles, role_permissions, user_roles, menus, models, user_settings;
