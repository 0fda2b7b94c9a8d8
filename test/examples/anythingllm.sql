-- A system prompt in the shape of AnythingLLM: membership in a join table, columns in camelCase, the application's prompt one row of a
-- key/value table. A workspace without a prompt of its own has the default; a user who is not a member, or suspended, has none.
--
--     SELECT prompt_cache.fetch('workspace_prompt', '42/7');       -- user 42 in workspace 7
CREATE SCHEMA anythingllm;
SET search_path = anythingllm;
CREATE TABLE system_settings (id serial PRIMARY KEY, label text UNIQUE NOT NULL, value text, "lastUpdatedAt" timestamptz DEFAULT now());
CREATE TABLE users (id serial PRIMARY KEY, username text UNIQUE, bio text DEFAULT '', suspended int NOT NULL DEFAULT 0, "lastUpdatedAt" timestamptz DEFAULT now());
CREATE TABLE workspaces (id serial PRIMARY KEY, name text NOT NULL, slug text UNIQUE, "openAiPrompt" text, "lastUpdatedAt" timestamptz DEFAULT now());
CREATE TABLE workspace_users (id serial PRIMARY KEY, user_id int NOT NULL REFERENCES users ON DELETE CASCADE, workspace_id int NOT NULL REFERENCES workspaces ON DELETE CASCADE);

-- One setting. Others that are written all the time end nothing.
CREATE FUNCTION setting(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT value FROM system_settings WHERE label = key $$;
SELECT prompt_cache.create_namespace('setting', 'setting(text)');
SELECT prompt_cache.watch('system_settings', 'setting', 'label', '{label,value}');

CREATE FUNCTION workspace(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(nullif("openAiPrompt", ''), prompt_cache.fetch('setting', 'default_system_prompt')) FROM workspaces WHERE id = key::int
$$;
SELECT prompt_cache.create_namespace('workspace', 'workspace(text)');
SELECT prompt_cache.watch('workspaces', 'workspace', 'id', '{openAiPrompt}');

CREATE FUNCTION member(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT bio FROM users WHERE id = key::int AND suspended = 0
$$;
SELECT prompt_cache.create_namespace('member', 'member(text)');
SELECT prompt_cache.watch('users', 'member', 'id', '{bio,suspended}');

CREATE FUNCTION workspace_prompt(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT prompt_cache.fetch('workspace', workspace_id::text) || E'\n' || prompt_cache.fetch('member', user_id::text)
      FROM (SELECT DISTINCT user_id, workspace_id FROM workspace_users
             WHERE user_id = split_part(key, '/', 1)::int AND workspace_id = split_part(key, '/', 2)::int) m
$$;
SELECT prompt_cache.create_namespace('workspace_prompt', 'workspace_prompt(text)');
SELECT prompt_cache.watch('workspace_users', 'workspace_prompt', $$user_id || '/' || workspace_id$$, '{user_id,workspace_id}');

INSERT INTO system_settings (label, value) VALUES ('default_system_prompt', 'You are helpful.'), ('telemetry_id', '0');
INSERT INTO users (username, bio) SELECT 'user ' || u, 'bio ' || u FROM generate_series(1, 6) u;
INSERT INTO workspaces (name, "openAiPrompt") SELECT 'workspace ' || w, CASE WHEN w % 2 = 0 THEN 'prompt ' || w END FROM generate_series(1, 4) w;
INSERT INTO workspace_users (user_id, workspace_id) SELECT u, w FROM generate_series(1, 6) u, generate_series(1, 4) w WHERE (u + w) % 3 > 0;
