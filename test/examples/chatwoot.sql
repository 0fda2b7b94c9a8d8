-- A system prompt in the shape of Chatwoot: one layer from several columns of an assistant, which an inbox finds through a join table;
-- the installation's own text is one row of a key/value table; the agent must belong to the account.
--
--     SELECT prompt_cache.fetch('captain_prompt', '42/7');         -- agent 42 in inbox 7
CREATE SCHEMA chatwoot;
SET search_path = chatwoot;
CREATE TABLE installation_configs (id bigserial PRIMARY KEY, name text UNIQUE NOT NULL, serialized_value jsonb NOT NULL DEFAULT '{}');
CREATE TABLE accounts (id bigserial PRIMARY KEY, name text NOT NULL, custom_attributes jsonb DEFAULT '{}', status int NOT NULL DEFAULT 0);
CREATE TABLE users (id bigserial PRIMARY KEY, name text NOT NULL, message_signature text, last_sign_in_at timestamp);
CREATE TABLE account_users (id bigserial PRIMARY KEY, account_id bigint NOT NULL, user_id bigint NOT NULL, active_at timestamp, UNIQUE (account_id, user_id));
CREATE TABLE captain_assistants (id bigserial PRIMARY KEY, account_id bigint NOT NULL, name text NOT NULL, description text,
    config jsonb NOT NULL DEFAULT '{}', response_guidelines jsonb DEFAULT '[]', guardrails jsonb DEFAULT '[]', updated_at timestamp);
CREATE TABLE captain_inboxes (id bigserial PRIMARY KEY, captain_assistant_id bigint NOT NULL, inbox_id bigint NOT NULL UNIQUE);

CREATE FUNCTION installation(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT serialized_value ->> 'value' FROM installation_configs WHERE name = key
$$;
SELECT prompt_cache.create_namespace('installation', 'installation(text)');
SELECT prompt_cache.watch('installation_configs', 'installation', 'name', '{name,serialized_value}');

CREATE FUNCTION assistant(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('account', account_id, 'text', concat_ws(E'\n', name, config ->> 'instructions',
               (SELECT '- ' || string_agg(g, E'\n- ') FROM jsonb_array_elements_text(response_guidelines) g),
               (SELECT 'Never: ' || string_agg(g, ', ') FROM jsonb_array_elements_text(guardrails) g)))
      FROM captain_assistants WHERE id = key::bigint
$$;
SELECT prompt_cache.create_namespace('assistant', 'assistant(text)');
SELECT prompt_cache.watch('captain_assistants', 'assistant', 'id', '{account_id,name,config,response_guidelines,guardrails}');

CREATE FUNCTION account(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws(': ', name, custom_attributes ->> 'instructions') FROM accounts WHERE id = key::bigint AND status = 0
$$;
SELECT prompt_cache.create_namespace('account', 'account(text)');
SELECT prompt_cache.watch('accounts', 'account', 'id', '{name,custom_attributes,status}');

-- The signature of an agent in an account, NULL for one who does not belong to it. The key names both.
CREATE FUNCTION agent(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT u.message_signature FROM users u WHERE u.id = au.user_id), '')
      FROM account_users au WHERE au.user_id = split_part(key, '/', 1)::bigint AND au.account_id = split_part(key, '/', 2)::bigint
$$;
SELECT prompt_cache.create_namespace('agent', 'agent(text)');
SELECT prompt_cache.watch('account_users', 'agent', $$user_id || '/' || account_id$$, '{user_id,account_id}'),
       prompt_cache.watch('users', 'agent', columns => '{id,message_signature}');

CREATE FUNCTION captain_prompt(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    assistant jsonb := (SELECT prompt_cache.fetch('assistant', captain_assistant_id::text) FROM captain_inboxes WHERE inbox_id = split_part(key, '/', 2)::bigint);
    company   text;
    signature text;
BEGIN
    company := prompt_cache.fetch('account', coalesce(assistant ->> 'account', '0'));
    signature := prompt_cache.fetch('agent', split_part(key, '/', 1) || '/' || coalesce(assistant ->> 'account', '0'));
    IF company IS NULL OR signature IS NULL THEN RETURN NULL; END IF;
    RETURN concat_ws(E'\n', prompt_cache.fetch('installation', 'CAPTAIN_SYSTEM_PROMPT'), company, assistant ->> 'text', nullif(signature, ''));
END
$$;
SELECT prompt_cache.create_namespace('captain_prompt', 'captain_prompt(text)');
SELECT prompt_cache.watch('captain_inboxes', 'captain_prompt', columns => '{inbox_id,captain_assistant_id}');

INSERT INTO installation_configs (name, serialized_value) VALUES ('CAPTAIN_SYSTEM_PROMPT', '{"value": "You are Captain."}'), ('INSTALLATION_VERSION', '{"value": 0}');
INSERT INTO accounts (name, custom_attributes) SELECT 'account ' || a, jsonb_build_object('instructions', 'be kind ' || a) FROM generate_series(1, 3) a;
INSERT INTO users (name, message_signature) SELECT 'agent ' || u, 'signed ' || u FROM generate_series(1, 6) u;
INSERT INTO account_users (account_id, user_id) SELECT a, u FROM generate_series(1, 3) a, generate_series(1, 6) u WHERE (a + u) % 3 > 0;
INSERT INTO captain_assistants (account_id, name, config, response_guidelines, guardrails)
SELECT a, 'assistant ' || a, jsonb_build_object('instructions', 'help ' || a), '["be brief", "be clear"]', '["prices"]' FROM generate_series(1, 3) a;
INSERT INTO captain_inboxes (captain_assistant_id, inbox_id) SELECT 1 + i % 3, i FROM generate_series(1, 4) i;
