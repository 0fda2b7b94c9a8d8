-- A system prompt in the shape of Dify: four layers (application, tenant, app, account), uuid keys, the tenant found through a join table
-- with a flag, and no foreign keys. An app of another tenant than the account's current one has no prompt.
--
--     SELECT prompt_cache.fetch('app_prompt', '<account>/<app>');
CREATE SCHEMA dify;
SET search_path = dify;
CREATE TABLE accounts (id uuid PRIMARY KEY, name text NOT NULL, interface_language text, status text NOT NULL DEFAULT 'active', last_active_at timestamp);
CREATE TABLE tenants (id uuid PRIMARY KEY, name text NOT NULL, status text NOT NULL DEFAULT 'normal', custom_config jsonb);
CREATE TABLE tenant_account_joins (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, account_id uuid NOT NULL, role text, current boolean NOT NULL DEFAULT false);
CREATE TABLE apps (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, name text NOT NULL, app_model_config_id uuid, updated_at timestamp);
CREATE TABLE app_model_configs (id uuid PRIMARY KEY, app_id uuid NOT NULL, pre_prompt text, temperature float);

CREATE FUNCTION tenant_layer(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT custom_config ->> 'instructions' FROM tenants WHERE id = key::uuid AND status = 'normal'
$$;
SELECT prompt_cache.create_namespace('tenant_layer', 'tenant_layer(text)');
SELECT prompt_cache.watch('tenants', 'tenant_layer', 'id', '{custom_config,status}');

-- The app's configuration is named by the app; a new one is written first, then the app is pointed at it. Its rows say which app they are of.
CREATE FUNCTION app_layer(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('tenant', a.tenant_id, 'prompt', c.pre_prompt)
      FROM apps a LEFT JOIN app_model_configs c ON c.id = a.app_model_config_id AND c.app_id = a.id WHERE a.id = key::uuid
$$;
SELECT prompt_cache.create_namespace('app_layer', 'app_layer(text)');
SELECT prompt_cache.watch('apps', 'app_layer', 'id', '{tenant_id,app_model_config_id}'),
       prompt_cache.watch('app_model_configs', 'app_layer', 'app_id', '{id,pre_prompt}');

CREATE FUNCTION account_layer(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('language', a.interface_language, 'tenant',
               (SELECT j.tenant_id FROM tenant_account_joins j WHERE j.account_id = a.id AND j.current ORDER BY j.id LIMIT 1))
      FROM accounts a WHERE a.id = key::uuid AND a.status = 'active'
$$;
SELECT prompt_cache.create_namespace('account_layer', 'account_layer(text)');
SELECT prompt_cache.watch('accounts', 'account_layer', 'id', '{interface_language,status}'),
       prompt_cache.watch('tenant_account_joins', 'account_layer', 'account_id', '{id,tenant_id,current}');

CREATE FUNCTION app_prompt(key text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    account jsonb := prompt_cache.fetch('account_layer', split_part(key, '/', 1));
    app     jsonb;
BEGIN
    IF account IS NULL OR account ->> 'tenant' IS NULL THEN RETURN NULL; END IF;
    app := prompt_cache.fetch('app_layer', split_part(key, '/', 2));
    IF app ->> 'tenant' IS DISTINCT FROM account ->> 'tenant' THEN RETURN NULL; END IF;
    RETURN concat_ws(E'\n', prompt_cache.application_prompt(), prompt_cache.fetch('tenant_layer', account ->> 'tenant'),
                     app ->> 'prompt', 'Answer in ' || (account ->> 'language') || '.');
END
$$;
SELECT prompt_cache.create_namespace('app_prompt', 'app_prompt(text)');

CREATE FUNCTION id_of(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT lpad(n::text, 32, '0')::uuid $$;
INSERT INTO accounts SELECT id_of(i), 'account ' || i, 'en' FROM generate_series(1, 6) i;
INSERT INTO tenants SELECT id_of(i), 'tenant ' || i, 'normal', jsonb_build_object('instructions', 'tenant ' || i) FROM generate_series(1, 3) i;
INSERT INTO tenant_account_joins SELECT id_of(10 * a + t), id_of(t), id_of(a), 'normal', a % 3 + 1 = t FROM generate_series(1, 6) a, generate_series(1, 3) t;
INSERT INTO apps SELECT id_of(i), id_of(1 + i % 3), 'app ' || i, id_of(10 * i) FROM generate_series(1, 4) i;
INSERT INTO app_model_configs SELECT id_of(10 * i + v), id_of(i), format('app %s version %s', i, v), 0.7 FROM generate_series(1, 4) i, generate_series(0, 2) v;
