-- prompt_cache 1.0: install script. Everything names its schema; functions in SQL and plpgsql fix their search_path.
\echo Use "CREATE EXTENSION prompt_cache" to load this file. \quit

-- Functions here run with the rights of their owner. Nobody else may own the schema or have put anything into it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace n
                WHERE n.nspname OPERATOR(pg_catalog.=) 'prompt_cache'
                  AND ((NOT pg_catalog.pg_has_role(current_user, n.nspowner, 'USAGE')
                        AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) n.nspowner AND r.rolsuper))
                       OR EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace OPERATOR(pg_catalog.=) n.oid)
                       OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid)
                       OR EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.typnamespace OPERATOR(pg_catalog.=) n.oid)
                       OR EXISTS (SELECT FROM pg_catalog.pg_operator o WHERE o.oprnamespace OPERATOR(pg_catalog.=) n.oid))) THEN
        RAISE EXCEPTION 'schema prompt_cache exists and is not empty, or belongs to another role'
            USING ERRCODE = 'duplicate_schema', HINT = 'Drop or rename it, then create the extension again.';
    END IF;
END
$$;

----------------------------------------------------------------------------------------------------------------------
-- Tables

-- How the chat schema is wired: one row after attach().
CREATE TABLE prompt_cache.attachment (
    only_one      boolean  PRIMARY KEY DEFAULT true CHECK (only_one),
    users         regclass NOT NULL,
    tenants       regclass,
    user_key      name     NOT NULL,
    user_tenant   name,
    user_prompt   text     NOT NULL,
    tenant_key    name,
    tenant_prompt text
);
COMMENT ON TABLE prompt_cache.attachment IS 'How the chat schema is wired; written by prompt_cache.attach().';

CREATE TABLE prompt_cache.application (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    prompt   text
);
COMMENT ON TABLE prompt_cache.application IS 'The application layer of every prompt; written by prompt_cache.set_application_prompt().';

CREATE TABLE prompt_cache.user_prompt_cache (
    id                 bigserial   PRIMARY KEY,
    user_key           text        NOT NULL,
    user_id            bigint      GENERATED ALWAYS AS (
        CASE WHEN user_key ~ '^-?[0-9]{1,19}$'
              AND user_key::numeric BETWEEN -9223372036854775808 AND 9223372036854775807
             THEN user_key::bigint END) STORED,
    cached_prompt      text        NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    replaced_at        timestamptz,
    tenant_key         text,
    application_length integer     NOT NULL,
    tenant_length      integer     NOT NULL,
    user_length        integer     NOT NULL,
    stamps             bigint[]    NOT NULL,
    CHECK (least(application_length, tenant_length, user_length) >= 0)
);
CREATE INDEX user_prompt_cache_user_key_id_idx ON prompt_cache.user_prompt_cache (user_key, id DESC);
CREATE INDEX user_prompt_cache_user_id_id_idx ON prompt_cache.user_prompt_cache (user_id, id DESC) WHERE user_id IS NOT NULL;
CREATE INDEX user_prompt_cache_replaced_at_idx ON prompt_cache.user_prompt_cache (replaced_at) WHERE replaced_at IS NOT NULL;
COMMENT ON TABLE prompt_cache.user_prompt_cache IS 'The durable tier and the history: each prompt that users were given, newest last. A row is used only while its stamps are current.';
COMMENT ON COLUMN prompt_cache.user_prompt_cache.user_key IS 'the user''s key in text form';
COMMENT ON COLUMN prompt_cache.user_prompt_cache.user_id IS 'the same as a number, where it is one';
COMMENT ON COLUMN prompt_cache.user_prompt_cache.replaced_at IS 'when a newer prompt of the user was written; NULL for the newest';
COMMENT ON COLUMN prompt_cache.user_prompt_cache.application_length IS 'bytes of the application''s own text in the prompt; 0 = left out';
COMMENT ON COLUMN prompt_cache.user_prompt_cache.tenant_length IS 'bytes of the tenant''s own text; 0 = left out';
COMMENT ON COLUMN prompt_cache.user_prompt_cache.user_length IS 'bytes of the user''s own text; 0 = left out';
COMMENT ON COLUMN prompt_cache.user_prompt_cache.stamps IS 'weight and nonces of *, application, tenant and user when the prompt was composed: what proves the row current';

-- Not a column of user_prompt_cache: the order of all users is written now and then as a few rows, not as an update of each.
CREATE TABLE prompt_cache.usage_order (
    rank      integer PRIMARY KEY,
    user_keys text[]  NOT NULL
);
COMMENT ON TABLE prompt_cache.usage_order IS 'Whose prompts were in use when a worker looked last, hottest first, two hundred users a row: what a restart brings back first.';

CREATE TABLE prompt_cache.tag_nonce (
    tag    bigint NOT NULL,
    nonce  bigint NOT NULL,
    weight bigint NOT NULL,
    -- Tells rows apart that are the same otherwise: two servers that replicate and compact may come to the same sum and xor.
    salt   bigint NOT NULL DEFAULT hashtextextended(gen_random_uuid()::text, 0),
    PRIMARY KEY (tag, salt)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE prompt_cache.tag_nonce IS 'What every change of a source leaves behind: a random number a changed tag. Only ever added to.';

SELECT pg_catalog.pg_extension_config_dump('prompt_cache.attachment', '');
SELECT pg_catalog.pg_extension_config_dump('prompt_cache.application', '');

----------------------------------------------------------------------------------------------------------------------
-- Triggers

CREATE FUNCTION prompt_cache._source_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'pc_source_changed';
COMMENT ON FUNCTION prompt_cache._source_changed() IS 'Trigger on every source: notes which tags a change concerns.';

CREATE TRIGGER prompt_cache_application_changed AFTER INSERT OR UPDATE OR DELETE ON prompt_cache.application
    FOR EACH ROW EXECUTE FUNCTION prompt_cache._source_changed('application', '', 'prompt');
CREATE TRIGGER prompt_cache_application_truncated AFTER TRUNCATE ON prompt_cache.application
    FOR EACH STATEMENT EXECUTE FUNCTION prompt_cache._source_changed('application', '');
ALTER TABLE prompt_cache.application ENABLE ALWAYS TRIGGER prompt_cache_application_changed;
ALTER TABLE prompt_cache.application ENABLE ALWAYS TRIGGER prompt_cache_application_truncated;

CREATE TRIGGER prompt_cache_attachment_changed AFTER INSERT OR UPDATE OR DELETE ON prompt_cache.attachment
    FOR EACH ROW EXECUTE FUNCTION prompt_cache._source_changed('attachment', '');
CREATE TRIGGER prompt_cache_attachment_truncated AFTER TRUNCATE ON prompt_cache.attachment
    FOR EACH STATEMENT EXECUTE FUNCTION prompt_cache._source_changed('attachment', '');
ALTER TABLE prompt_cache.attachment ENABLE ALWAYS TRIGGER prompt_cache_attachment_changed;
ALTER TABLE prompt_cache.attachment ENABLE ALWAYS TRIGGER prompt_cache_attachment_truncated;

-- Where the library is not preloaded, DDL on a source would leave no trace for the durable tier: this loads the library.
CREATE FUNCTION prompt_cache._ddl_seen() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'pc_ddl_seen';
COMMENT ON FUNCTION prompt_cache._ddl_seen() IS 'Event trigger: loads the library in every session that runs DDL.';

CREATE EVENT TRIGGER prompt_cache_ddl ON ddl_command_end EXECUTE FUNCTION prompt_cache._ddl_seen();
ALTER EVENT TRIGGER prompt_cache_ddl ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER prompt_cache_ddl IS 'Loads the library of prompt_cache in every session that runs DDL.';

----------------------------------------------------------------------------------------------------------------------
-- The wiring as a lookup needs it. Reads tables and catalogs only, so that it sees one snapshot throughout. In plpgsql,
-- which keeps its plans: where nothing is cached this runs for every prompt. The names of the tables are those of now
-- (regclass prints what the caches of the server say), since a query is parsed now, whatever snapshot it runs under.

CREATE FUNCTION prompt_cache._sources(
    OUT role text, OUT relation oid, OUT is_root boolean, OUT arguments bytea)
RETURNS SETOF record LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE root AS (
        SELECT 'application' AS role, 'prompt_cache.application'::regclass::oid AS relation,
               ARRAY['application', '', 'prompt'] AS arguments
          FROM prompt_cache.attachment
        UNION ALL
        SELECT 'tenant', tenants::oid, ARRAY['tenant', tenant_key::text, tenant_prompt]
          FROM prompt_cache.attachment WHERE tenants IS NOT NULL
        UNION ALL
        SELECT 'user', users::oid, array_remove(ARRAY['user', user_key::text, user_prompt, user_tenant::text], NULL)
          FROM prompt_cache.attachment
    ), tree AS (
        SELECT root.role, root.relation, true AS is_root FROM root
        UNION ALL
        SELECT tree.role, i.inhrelid, false
          FROM tree
          JOIN pg_class c ON c.oid = tree.relation AND c.relkind = 'p'
          JOIN pg_inherits i ON i.inhparent = tree.relation
    )
    SELECT tree.role, tree.relation, tree.is_root,
           (SELECT string_agg(convert_to(a.argument, getdatabaseencoding()) || '\x00'::bytea, ''::bytea ORDER BY a.n)
              FROM root, unnest(root.arguments) WITH ORDINALITY AS a(argument, n) WHERE root.role = tree.role)
      FROM tree;
END
$$;
COMMENT ON FUNCTION prompt_cache._sources() IS 'Every source relation, partitions included, with the arguments its trigger must have.';

-- Sources on which a trigger of ours is missing, changed or not ENABLE ALWAYS.
CREATE FUNCTION prompt_cache._unsound_sources(OUT role text, OUT relation oid, OUT kind text)
RETURNS SETOF record LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT s.role, s.relation, k.kind
      FROM prompt_cache._sources() s
     CROSS JOIN (VALUES ('changed', 29), ('truncated', 32)) AS k(kind, tgtype)
     WHERE (k.kind = 'changed' OR s.is_root)
       AND NOT EXISTS (
           SELECT FROM pg_trigger t
            WHERE t.tgrelid = s.relation AND t.tgtype = k.tgtype AND t.tgenabled = 'A'
              AND t.tgfoid = 'prompt_cache._source_changed()'::regprocedure
              AND t.tgqual IS NULL AND t.tgattr = ''::int2vector AND NOT t.tgdeferrable
              AND (k.kind = 'truncated' OR t.tgargs = s.arguments));
END
$$;
COMMENT ON FUNCTION prompt_cache._unsound_sources() IS 'Sources whose changes might go unnoticed: nothing is stored while there is one.';

CREATE FUNCTION prompt_cache._key_type(type oid) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN type IN (20, 21, 23) THEN 'bigint' WHEN type = 2950 THEN 'uuid' WHEN type IN (25, 1043) THEN 'text' END
$$;
COMMENT ON FUNCTION prompt_cache._key_type(oid) IS 'How keys of this type are handled; NULL: they are not supported.';

-- The key type of a column that can be a key; NULL if there is no such column or it cannot.
CREATE FUNCTION prompt_cache._usable_key(relation oid, name text) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT prompt_cache._key_type(a.atttypid)
      FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation
     WHERE a.attrelid = relation AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped
       AND a.attgenerated <> 'v' AND coalesce(l.collisdeterministic, true)
       AND EXISTS (SELECT FROM pg_index i
                    WHERE i.indrelid = relation AND i.indisunique AND i.indimmediate AND i.indisvalid
                      AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indpred IS NULL AND i.indexprs IS NULL)
$$;
COMMENT ON FUNCTION prompt_cache._usable_key(oid, text) IS 'How keys of a column are handled; NULL if it cannot be a key.';

-- Is there such a column, and does its text depend on nothing but its bytes?
CREATE FUNCTION prompt_cache._usable_prompt(relation oid, name text) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                    WHERE a.attrelid = relation AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped
                      AND a.attgenerated <> 'v'   -- a trigger does not see what is computed when read
                      AND (t.typcategory = 'S' OR a.atttypid IN ('json'::regtype, 'jsonb'::regtype)))
$$;
COMMENT ON FUNCTION prompt_cache._usable_prompt(oid, text) IS 'Can a column hold a prompt?';

-- Can a column point to keys of this type?
CREATE FUNCTION prompt_cache._usable_pointer(relation oid, name text, key_type text) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT k.type IS NOT NULL AND (key_type = k.type OR 'text' IN (key_type, k.type))
                       FROM pg_attribute a CROSS JOIN LATERAL (SELECT prompt_cache._key_type(a.atttypid)) AS k(type)
                      WHERE a.attrelid = relation AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped
                        AND a.attgenerated <> 'v'), false)
$$;
COMMENT ON FUNCTION prompt_cache._usable_pointer(oid, text, text) IS 'Can a column hold the tenant''s key?';

CREATE FUNCTION prompt_cache._attachment(
    OUT user_key_type text, OUT tenant_key_type text, OUT owners oid[], OUT queries text[], OUT problem text,
    OUT sound boolean, OUT durable boolean, OUT sources oid[], OUT schemas oid[], OUT storage bigint)
RETURNS SETOF record LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT ut.name, tt.name,
           ARRAY[(SELECT c.relowner FROM pg_class c WHERE c.oid = 'prompt_cache.application'::regclass),
                 coalesce(t.relowner, 0), coalesce(u.relowner, 0)],
           ARRAY['SELECT prompt FROM ONLY prompt_cache.application',
                 CASE WHEN t.oid IS NOT NULL THEN
                     format('SELECT t.%I::pg_catalog.text FROM %s %s t WHERE t.%I OPERATOR(pg_catalog.=) $1',
                            a.tenant_prompt, CASE t.relkind WHEN 'r' THEN 'ONLY' END, a.tenants, a.tenant_key)
                 ELSE '' END,
                 coalesce(format('SELECT u.%I::pg_catalog.text, %s FROM %s %s u WHERE u.%I OPERATOR(pg_catalog.=) $1',
                        a.user_prompt,
                        CASE WHEN t.oid IS NOT NULL
                             THEN format('u.%I::pg_catalog.%s::pg_catalog.text', a.user_tenant,
                                         CASE tt.name WHEN 'bigint' THEN 'int8' ELSE tt.name END)
                             ELSE 'NULL::pg_catalog.text' END,
                        CASE u.relkind WHEN 'r' THEN 'ONLY' END, a.users, a.user_key), ''),
                 coalesce(format('SELECT 1 FROM %s %s u WHERE u.%I OPERATOR(pg_catalog.=) $1',
                        CASE u.relkind WHEN 'r' THEN 'ONLY' END, a.users, a.user_key), '')],
           CASE WHEN u.oid IS NULL THEN 'the users table is gone'
                WHEN a.tenants IS NOT NULL AND t.oid IS NULL THEN 'the tenants table is gone'
                WHEN ut.name IS NULL THEN format('%I.%I has no usable key column %I', un.nspname, u.relname, a.user_key)
                WHEN t.oid IS NOT NULL AND tt.name IS NULL
                THEN format('%I.%I has no usable key column %I', tn.nspname, t.relname, a.tenant_key)
                WHEN NOT prompt_cache._usable_prompt(u.oid, a.user_prompt)
                THEN format('%I.%I has no usable prompt column %I', un.nspname, u.relname, a.user_prompt)
                WHEN t.oid IS NOT NULL AND NOT prompt_cache._usable_prompt(t.oid, a.tenant_prompt)
                THEN format('%I.%I has no usable prompt column %I', tn.nspname, t.relname, a.tenant_prompt)
                WHEN t.oid IS NOT NULL AND NOT prompt_cache._usable_pointer(u.oid, a.user_tenant, tt.name)
                THEN format('%I.%I has no usable tenant column %I', un.nspname, u.relname, a.user_tenant)
                WHEN EXISTS (SELECT FROM prompt_cache._sources() s JOIN pg_class c ON c.oid = s.relation
                              WHERE c.relkind NOT IN ('r', 'p'))
                THEN 'a source is not a table any more'
           END,
           NOT EXISTS (SELECT FROM prompt_cache._unsound_sources()),
           NOT EXISTS (SELECT FROM prompt_cache._sources() s JOIN pg_class c ON c.oid = s.relation WHERE c.relpersistence <> 'p'),
           ARRAY(SELECT s.relation FROM prompt_cache._sources() s
                 UNION ALL SELECT 'prompt_cache.attachment'::regclass::oid),
           ARRAY(SELECT DISTINCT c.relnamespace FROM pg_class c WHERE c.oid IN (a.users, a.tenants)),
           -- TRUNCATE of a partition fires no trigger of ours; where the library is not preloaded only this tells of it.
           (SELECT coalesce(bit_xor(hashint8extended(c.relfilenode::bigint, c.oid::bigint)), 0)
              FROM prompt_cache._sources() s JOIN pg_class c ON c.oid = s.relation WHERE NOT s.is_root)
      FROM prompt_cache.attachment a
      LEFT JOIN pg_class u ON u.oid = a.users
      LEFT JOIN pg_namespace un ON un.oid = u.relnamespace
      LEFT JOIN pg_class t ON t.oid = a.tenants
      LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
     CROSS JOIN LATERAL (SELECT prompt_cache._usable_key(u.oid, a.user_key)) AS ut(name)
     CROSS JOIN LATERAL (SELECT prompt_cache._usable_key(t.oid, a.tenant_key)) AS tt(name);
END
$$;
COMMENT ON FUNCTION prompt_cache._attachment() IS 'The wiring as a lookup needs it: builder queries, owners, sources and whether every trigger stands.';

----------------------------------------------------------------------------------------------------------------------
-- Prompts

CREATE FUNCTION prompt_cache.get_or_build(user_id bigint, OUT prompt text, OUT cached boolean, OUT source text)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_get_or_build';
COMMENT ON FUNCTION prompt_cache.get_or_build(bigint) IS
    'The system prompt of a user, exactly as a rebuild under the caller''s snapshot would return it. prompt: NULL if there is no such user; cached: no layer was built now; source: memory, redis, database or built.';

CREATE FUNCTION prompt_cache.get_or_build_key(user_key text, OUT prompt text, OUT cached boolean, OUT source text)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_get_or_build_key';
COMMENT ON FUNCTION prompt_cache.get_or_build_key(text) IS 'As get_or_build, for keys of any attached type in text form (uuid, text, integers).';

CREATE FUNCTION prompt_cache.prompt(user_id bigint) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_prompt';
COMMENT ON FUNCTION prompt_cache.prompt(bigint) IS 'The system prompt of a user: the same value as get_or_build, the fast path.';

CREATE FUNCTION prompt_cache.prompt_key(user_key text) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_prompt_key';
COMMENT ON FUNCTION prompt_cache.prompt_key(text) IS 'As prompt, for keys of any attached type in text form.';

CREATE FUNCTION prompt_cache.build(user_id bigint) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_build';
COMMENT ON FUNCTION prompt_cache.build(bigint) IS 'Builds the prompt under the caller''s snapshot and touches no cache: the oracle that get_or_build is held to.';

CREATE FUNCTION prompt_cache.build_key(user_key text) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_build_key';
COMMENT ON FUNCTION prompt_cache.build_key(text) IS 'As build, for keys of any attached type in text form.';

CREATE FUNCTION prompt_cache.invalidate_user(user_id bigint) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_invalidate_user';
COMMENT ON FUNCTION prompt_cache.invalidate_user(bigint) IS 'Declares a user''s layer changed: at once for the caller, at commit for everybody, not at all on rollback. Rarely needed, since triggers do it.';

CREATE FUNCTION prompt_cache.invalidate_user_key(user_key text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_invalidate_user_key';
COMMENT ON FUNCTION prompt_cache.invalidate_user_key(text) IS 'As invalidate_user, for keys of any attached type in text form.';

CREATE FUNCTION prompt_cache.invalidate_tenant(tenant_id bigint) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_invalidate_tenant';
COMMENT ON FUNCTION prompt_cache.invalidate_tenant(bigint) IS 'Declares a tenant''s layer changed, for all its users, at the price of one small build.';

CREATE FUNCTION prompt_cache.invalidate_tenant_key(tenant_key text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_invalidate_tenant_key';
COMMENT ON FUNCTION prompt_cache.invalidate_tenant_key(text) IS 'As invalidate_tenant, for keys of any attached type in text form.';

CREATE FUNCTION prompt_cache.clear() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_clear';
COMMENT ON FUNCTION prompt_cache.clear() IS 'Empties this database''s memory tier at once and returns the number of entries there were; makes the rows of the durable tier unusable at commit (they stay as history). On a standby: memory only.';

CREATE FUNCTION prompt_cache.set_application_prompt(prompt text) RETURNS boolean
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO prompt_cache.application AS a (prompt) VALUES (set_application_prompt.prompt)
        ON CONFLICT (only_one) DO UPDATE SET prompt = excluded.prompt;
    SELECT true;
$$;
COMMENT ON FUNCTION prompt_cache.set_application_prompt(text) IS 'Sets the application layer of every prompt, transactionally; NULL or '''' leaves it out. Survives dump and restore.';

CREATE FUNCTION prompt_cache.application_prompt() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT prompt FROM prompt_cache.application
$$;
COMMENT ON FUNCTION prompt_cache.application_prompt() IS 'The application layer; NULL if there is none.';

----------------------------------------------------------------------------------------------------------------------
-- Wiring

-- Raises an error with a hint if `source` cannot be a source; returns its key column.
CREATE FUNCTION prompt_cache._check_source(source regclass, role text, key name, columns name[]) RETURNS name
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rel      record;
    key_name name := key;
    keys     int2vector;
    missing  name;
    leaf     regclass;
    att      record;
BEGIN
    SELECT c.*, n.nspname INTO rel FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'relation with OID % does not exist', source::oid USING ERRCODE = 'undefined_table',
            HINT = 'Name the tables: prompt_cache.attach(users => ''schema.table'', tenants => ''schema.table'').';
    END IF;
    IF rel.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is not a table', source USING ERRCODE = 'wrong_object_type',
            DETAIL = 'Changes of views, materialized views and foreign tables cannot be noticed by triggers.',
            HINT = 'Attach the tables behind it.';
    END IF;
    IF rel.relpersistence = 't' THEN
        RAISE EXCEPTION '% is a temporary table', source USING ERRCODE = 'wrong_object_type',
            HINT = 'Attach a permanent table.';
    END IF;
    IF rel.nspname IN ('pg_catalog', 'information_schema', 'pg_toast') THEN
        RAISE EXCEPTION '% is a system catalog', source USING ERRCODE = 'wrong_object_type',
            HINT = 'Attach the chat application''s own tables.';
    END IF;
    IF rel.nspname = 'prompt_cache' THEN
        RAISE EXCEPTION '% belongs to prompt_cache itself', source USING ERRCODE = 'wrong_object_type',
            HINT = 'Attach the chat application''s own tables.';
    END IF;
    IF rel.relforcerowsecurity
       AND NOT (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles r WHERE r.oid = rel.relowner) THEN
        RAISE EXCEPTION 'row-level security is forced on the owner of %', source
            USING ERRCODE = 'object_not_in_prerequisite_state',
            DETAIL = 'A cached prompt is a function of its key alone, so the builder must read every row.',
            HINT = format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY, or give role %I the attribute BYPASSRLS.',
                          source, rel.relowner::regrole);
    END IF;
    SELECT c.oid INTO leaf FROM pg_partition_tree(source) t JOIN pg_class c ON c.oid = t.relid
     WHERE c.relkind NOT IN ('r', 'p') LIMIT 1;
    IF leaf IS NOT NULL THEN
        RAISE EXCEPTION 'partition % of % is a foreign table', leaf, source USING ERRCODE = 'wrong_object_type',
            HINT = 'Changes behind a foreign table cannot be noticed.';
    END IF;

    IF key_name IS NULL THEN
        SELECT i.indkey INTO keys FROM pg_index i WHERE i.indrelid = source AND i.indisprimary;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'table % has no primary key', source USING ERRCODE = 'undefined_object',
                HINT = format('Name its unique column: attach(..., %s_key => ''column'').', role);
        END IF;
        IF array_length(keys, 1) <> 1 THEN
            RAISE EXCEPTION 'table % has a composite primary key', source USING ERRCODE = 'feature_not_supported',
                HINT = format('Name a column that is unique by itself: attach(..., %s_key => ''column'').', role);
        END IF;
        SELECT a.attname INTO key_name FROM pg_attribute a WHERE a.attrelid = source AND a.attnum = keys[0];
    END IF;

    SELECT c.name INTO missing FROM unnest(array_prepend(key_name, columns)) AS c(name)
     WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = source AND a.attname = c.name
                          AND a.attnum > 0 AND NOT a.attisdropped)
     LIMIT 1;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'column "%" of table % does not exist', missing, source USING ERRCODE = 'undefined_column',
            HINT = 'Name the columns: attach(users => ..., user_key => ..., user_tenant => ..., user_prompt => ..., tenant_key => ..., tenant_prompt => ...).';
    END IF;

    SELECT a.*, l.collisdeterministic INTO att
      FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation
     WHERE a.attrelid = source AND a.attname = key_name;
    IF prompt_cache._key_type(att.atttypid) IS NULL THEN
        RAISE EXCEPTION 'key column "%" of table % has type %, which cannot be a key', key_name, source,
                format_type(att.atttypid, att.atttypmod) USING ERRCODE = 'datatype_mismatch',
            HINT = 'Keys are integers, uuid, text or varchar.';
    END IF;
    IF NOT coalesce(att.collisdeterministic, true) THEN
        RAISE EXCEPTION 'key column "%" of table % has a nondeterministic collation', key_name, source
            USING ERRCODE = 'datatype_mismatch',
            HINT = 'Two texts that are equal but not the same would be two keys. Use a deterministic collation.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_index i
                    WHERE i.indrelid = source AND i.indisunique AND i.indimmediate AND i.indisvalid
                      AND i.indnkeyatts = 1 AND i.indkey[0] = att.attnum
                      AND i.indpred IS NULL AND i.indexprs IS NULL) THEN
        RAISE EXCEPTION 'column "%" of table % is not unique', key_name, source USING ERRCODE = 'invalid_parameter_value',
            HINT = 'A key needs a primary key or unique index of its own.';
    END IF;
    RETURN key_name;
END
$$;
COMMENT ON FUNCTION prompt_cache._check_source(regclass, text, name, name[]) IS 'Raises an error with a hint if a table cannot be a source; returns its key column.';

CREATE FUNCTION prompt_cache._check_prompt_column(source regclass, col text) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    att record;
BEGIN
    SELECT a.atttypid, a.atttypmod, t.typcategory INTO att FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = source AND a.attname = col AND a.attnum > 0;
    IF att.typcategory <> 'S' AND att.atttypid NOT IN ('json'::regtype, 'jsonb'::regtype) THEN
        RAISE EXCEPTION 'column "%" of table % has type %, which is not text', col, source,
                format_type(att.atttypid, att.atttypmod) USING ERRCODE = 'datatype_mismatch',
            HINT = 'A prompt column is text, varchar, citext, json or jsonb.';
    END IF;
END
$$;
COMMENT ON FUNCTION prompt_cache._check_prompt_column(regclass, text) IS 'Raises an error with a hint if a column cannot hold a prompt.';

CREATE FUNCTION prompt_cache._check_tenant_column(users regclass, user_tenant name, tenants regclass, tenant_key name)
RETURNS void LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pointer record;
    target  record;
BEGIN
    SELECT a.atttypid, format_type(a.atttypid, a.atttypmod) AS name, prompt_cache._key_type(a.atttypid) AS kind
      INTO pointer FROM pg_attribute a WHERE a.attrelid = users AND a.attname = user_tenant;
    SELECT a.atttypid, format_type(a.atttypid, a.atttypmod) AS name, prompt_cache._key_type(a.atttypid) AS kind
      INTO target FROM pg_attribute a WHERE a.attrelid = tenants AND a.attname = tenant_key;
    IF pointer.kind IS NULL OR (pointer.kind <> target.kind AND 'text' NOT IN (pointer.kind, target.kind)) THEN
        RAISE EXCEPTION 'column "%" of table % has type %, which cannot point to a key of type %',
                user_tenant, users, pointer.name, target.name USING ERRCODE = 'datatype_mismatch',
            HINT = 'Name the column that holds the tenant''s key: attach(..., user_tenant => ''column'').';
    END IF;
END
$$;
COMMENT ON FUNCTION prompt_cache._check_tenant_column(regclass, name, regclass, name) IS 'Raises an error with a hint if a column cannot point to a tenant.';

CREATE FUNCTION prompt_cache._drop_triggers() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT g.tgname, g.tgrelid::regclass AS source
               FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
              WHERE g.tgfoid = 'prompt_cache._source_changed()'::regprocedure AND g.tgparentid = 0
                AND c.relnamespace <> 'prompt_cache'::regnamespace
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.source);
    END LOOP;
END
$$;
COMMENT ON FUNCTION prompt_cache._drop_triggers() IS 'Takes our triggers off the user''s tables.';

CREATE FUNCTION prompt_cache._create_triggers(source regclass, role text, arguments text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed   text := format('prompt_cache_%s_changed', role);
    truncated text := format('prompt_cache_%s_truncated', role);
    list      text := (SELECT string_agg(quote_literal(a), ', ' ORDER BY n) FROM unnest(role || arguments) WITH ORDINALITY AS x(a, n));
BEGIN
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION prompt_cache._source_changed(%s)',
                   changed, source, list);
    EXECUTE format('CREATE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION prompt_cache._source_changed(%s)',
                   truncated, source, list);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I, ENABLE ALWAYS TRIGGER %I', source, changed, truncated);
    EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION prompt_cache', changed, source);
    EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION prompt_cache', truncated, source);
END
$$;
COMMENT ON FUNCTION prompt_cache._create_triggers(regclass, text, text[]) IS 'Puts our triggers on a table.';

-- Turns our triggers back to ENABLE ALWAYS where a restore or ENABLE TRIGGER ALL has changed them. A table that somebody has
-- locked is left for later: who waits for such a lock holds up everybody who comes after.
CREATE FUNCTION prompt_cache._repair_triggers(OUT repaired integer, OUT locked integer)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t record;
BEGIN
    repaired := 0;
    locked := 0;
    FOR t IN SELECT s.relation::regclass AS source, string_agg(format('ENABLE ALWAYS TRIGGER %I', g.tgname), ', ') AS commands
               FROM prompt_cache._sources() s JOIN pg_trigger g ON g.tgrelid = s.relation
              WHERE g.tgfoid = 'prompt_cache._source_changed()'::regprocedure AND g.tgenabled = 'O'
              GROUP BY s.relation
    LOOP
        BEGIN
            EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE NOWAIT', t.source);
            EXECUTE format('ALTER TABLE %s %s', t.source, t.commands);
            repaired := repaired + 1;
        EXCEPTION WHEN lock_not_available THEN
            locked := locked + 1;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION prompt_cache._repair_triggers() IS 'Turns our triggers from ENABLE back to ENABLE ALWAYS: on how many tables, and how many are locked by somebody.';

CREATE FUNCTION prompt_cache._purge() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_purge';
COMMENT ON FUNCTION prompt_cache._purge() IS 'Deletes the durable rows of users that are gone.';

-- The work of attach(), as the extension's owner; attach() has checked that its caller owns the tables.
CREATE FUNCTION prompt_cache._attach(
    users regclass, tenants regclass, user_key name, user_tenant name, user_prompt text, tenant_key name, tenant_prompt text)
RETURNS boolean LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    found_user_key   name;
    found_tenant_key name;
BEGIN
    -- One attach() at a time.
    LOCK TABLE prompt_cache.attachment IN SHARE ROW EXCLUSIVE MODE;
    IF users IS NULL THEN
        RAISE EXCEPTION 'there is no table "users"' USING ERRCODE = 'undefined_table',
            HINT = 'Name the table: prompt_cache.attach(users => ''schema.table'', tenants => ''schema.table'').';
    END IF;
    IF user_prompt IS NULL THEN
        RAISE EXCEPTION 'user_prompt must not be NULL' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'Name the column of the users table that holds the prompt.';
    END IF;
    found_user_key := prompt_cache._check_source(users, 'user', user_key,
        CASE WHEN tenants IS NULL THEN ARRAY[user_prompt::name] ELSE ARRAY[user_prompt::name, user_tenant] END);
    PERFORM prompt_cache._check_prompt_column(users, user_prompt);
    IF tenants IS NULL THEN
        RAISE NOTICE 'no tenants table: prompts have no tenant layer';
        user_tenant := NULL;
        tenant_prompt := NULL;
    ELSE
        IF user_tenant IS NULL OR tenant_prompt IS NULL THEN
            RAISE EXCEPTION 'user_tenant and tenant_prompt must not be NULL where there is a tenants table'
                USING ERRCODE = 'null_value_not_allowed', HINT = 'Name the columns, or pass tenants => NULL.';
        END IF;
        found_tenant_key := prompt_cache._check_source(tenants, 'tenant', tenant_key, ARRAY[tenant_prompt::name]);
        PERFORM prompt_cache._check_tenant_column(users, user_tenant, tenants, found_tenant_key);
        PERFORM prompt_cache._check_prompt_column(tenants, tenant_prompt);
    END IF;

    PERFORM prompt_cache._drop_triggers();
    DELETE FROM prompt_cache.attachment;
    INSERT INTO prompt_cache.attachment (users, tenants, user_key, user_tenant, user_prompt, tenant_key, tenant_prompt)
    VALUES (users, tenants, found_user_key, user_tenant, user_prompt, found_tenant_key, tenant_prompt);
    IF tenants IS NULL THEN
        PERFORM prompt_cache._create_triggers(users, 'user'::text, ARRAY[found_user_key::text, user_prompt]);
    ELSE
        PERFORM prompt_cache._create_triggers(users, 'user'::text, ARRAY[found_user_key::text, user_prompt, user_tenant::text]);
        PERFORM prompt_cache._create_triggers(tenants, 'tenant'::text, ARRAY[found_tenant_key::text, tenant_prompt]);
    END IF;
    PERFORM prompt_cache._purge();
    RETURN true;
END
$$;
COMMENT ON FUNCTION prompt_cache._attach(regclass, regclass, name, name, text, name, text) IS 'The work of attach().';

CREATE FUNCTION prompt_cache.attach(
    users         regclass DEFAULT to_regclass('users'),
    tenants       regclass DEFAULT to_regclass('tenants'),
    user_key      name     DEFAULT NULL,
    user_tenant   name     DEFAULT 'tenant_id',
    user_prompt   text     DEFAULT 'system_prompt',
    tenant_key    name     DEFAULT NULL,
    tenant_prompt text     DEFAULT 'system_prompt')
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_attach';
COMMENT ON FUNCTION prompt_cache.attach(regclass, regclass, name, name, text, name, text) IS
    'Wires the chat schema: puts triggers on the users and tenants tables and makes their columns the builder. Calling it again replaces the wiring. The caller must own the tables.';

CREATE FUNCTION prompt_cache._detach() RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOCK TABLE prompt_cache.attachment IN SHARE ROW EXCLUSIVE MODE;
    PERFORM prompt_cache._drop_triggers();
    DELETE FROM prompt_cache.attachment;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION prompt_cache._detach() IS 'The work of detach().';

CREATE FUNCTION prompt_cache.detach() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_detach';
COMMENT ON FUNCTION prompt_cache.detach() IS 'Takes away everything attach() made on the user''s tables; false if nothing was attached. The caller must own the tables.';

CREATE FUNCTION prompt_cache._flush() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_flush';
COMMENT ON FUNCTION prompt_cache._flush() IS 'Writes what memory holds to the durable tier; returns the rows written.';

CREATE FUNCTION prompt_cache.flush() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    triggers record;
BEGIN
    IF current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION 'cannot execute prompt_cache.flush() in a read-only transaction'
            USING ERRCODE = 'read_only_sql_transaction',
                  HINT = CASE WHEN pg_is_in_recovery() THEN 'The durable tier is written on the primary.'
                              ELSE 'Call it in a transaction that may write.' END;
    END IF;
    IF EXISTS (SELECT FROM prompt_cache._attachment() w WHERE w.problem IS NULL) THEN
        PERFORM prompt_cache._purge();
    END IF;
    -- After the long work, since the table stays locked until the transaction ends.
    SELECT * INTO triggers FROM prompt_cache._repair_triggers();
    IF triggers.repaired > 0 THEN
        RAISE NOTICE 'triggers of prompt_cache were turned back to ENABLE ALWAYS'
            USING DETAIL = 'What was cached before cannot be trusted any more and is not written.';
    END IF;
    IF triggers.locked > 0 THEN
        RAISE NOTICE 'triggers of prompt_cache are not ENABLE ALWAYS, and their table is locked'
            USING DETAIL = 'Nothing is cached until they are turned back.',
                  HINT = 'Call prompt_cache.flush() again, or wait for a worker to do it.';
    END IF;
    RETURN prompt_cache._flush();
END
$$;
COMMENT ON FUNCTION prompt_cache.flush() IS 'On return the durable tier holds what memory held; returns the number of rows written. Also purges rows of users that are gone and repairs triggers that a restore has changed.';

CREATE FUNCTION prompt_cache.prune(keep integer DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pruned bigint;
BEGIN
    keep := coalesce(keep, current_setting('prompt_cache.history')::integer);
    IF keep < 0 THEN
        RAISE EXCEPTION 'keep must not be negative' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'It is the number of rows to keep for each user.';
    END IF;
    DELETE FROM prompt_cache.user_prompt_cache c
     USING (SELECT id, row_number() OVER (PARTITION BY user_key ORDER BY id DESC) AS n FROM prompt_cache.user_prompt_cache) r
     WHERE c.id = r.id AND r.n > keep;
    GET DIAGNOSTICS pruned = ROW_COUNT;
    RETURN pruned;
END
$$;
COMMENT ON FUNCTION prompt_cache.prune(integer) IS 'Deletes all but the newest `keep` rows of each user (NULL: the setting history) and returns how many.';

-- What a worker does now and then, a little at a time.

-- Many rows of a tag become one with the same sum and xor: no snapshot sees another stamp. Two thousand rows in the order of the
-- primary key, from behind those given; what is left of a tag that lies across the border is for the next time.
CREATE FUNCTION prompt_cache._compact_nonces(
    INOUT after_tag bigint DEFAULT '-9223372036854775808', INOUT after_salt bigint DEFAULT '-9223372036854775808')
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    crowded tid[];
BEGIN
    SELECT array_agg(s.place) FILTER (WHERE s.of_tag > 1),
           (array_agg(s.tag ORDER BY s.tag, s.salt))[2000], (array_agg(s.salt ORDER BY s.tag, s.salt))[2000]
      INTO crowded, after_tag, after_salt
      FROM (SELECT n.*, count(*) OVER (PARTITION BY n.tag) AS of_tag
              FROM (SELECT ctid AS place, tag, salt FROM prompt_cache.tag_nonce
                     WHERE (tag, salt) > (after_tag, after_salt) ORDER BY tag, salt LIMIT 2000) n) s;
    IF crowded IS NOT NULL THEN
        WITH gone AS (
            DELETE FROM prompt_cache.tag_nonce WHERE ctid = ANY (crowded) RETURNING tag, nonce, weight
        )
        INSERT INTO prompt_cache.tag_nonce (tag, nonce, weight)
        SELECT tag, bit_xor(nonce), sum(weight)::bigint FROM gone GROUP BY tag;
    END IF;
END
$$;
COMMENT ON FUNCTION prompt_cache._compact_nonces(bigint, bigint) IS 'Puts nonces of one tag together, in a slice of the table; returns where the next slice begins, NULL at the end.';

-- Would a copy of tag_nonce take less than half, and making it no more than a moment?
CREATE FUNCTION prompt_cache._nonces_are_bloated() RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size bigint := pg_total_relation_size('prompt_cache.tag_nonce');
    tags bigint;
BEGIN
    IF size < 131072 THEN
        RETURN false;
    END IF;
    SELECT count(*) INTO tags FROM prompt_cache.tag_nonce;
    -- 60 bytes a row and 32 a key, on pages nine tenths full, and a page to begin the index.
    RETURN tags <= 200000 AND size > 2 * (8192 + tags * 92 * 10 / 9);
END
$$;
COMMENT ON FUNCTION prompt_cache._nonces_are_bloated() IS 'Would a copy of tag_nonce take less than half, and making it no more than a moment?';

CREATE FUNCTION prompt_cache._nonces_are_frozen() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_nonces_are_frozen';
COMMENT ON FUNCTION prompt_cache._nonces_are_frozen() IS 'Is every row of tag_nonce seen by every snapshot, and none dead?';

-- Makes the copy. CLUSTER freezes rows and leaves out dead ones without telling standbys, whose older snapshots would then see other
-- stamps. VACUUM FREEZE does tell them, so only what it has frozen to the last row is copied.
CREATE FUNCTION prompt_cache._rewrite_nonces() RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOCK TABLE prompt_cache.tag_nonce IN ACCESS EXCLUSIVE MODE NOWAIT;
    IF NOT prompt_cache._nonces_are_frozen() THEN
        RETURN false;
    END IF;
    CLUSTER prompt_cache.tag_nonce USING tag_nonce_pkey;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$;
COMMENT ON FUNCTION prompt_cache._rewrite_nonces() IS 'Makes tag_nonce small again after many changes; false where somebody holds it, or not every row is frozen.';

CREATE FUNCTION prompt_cache._expire_rows() RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    deleted bigint;
    max_age interval := make_interval(secs => extract(epoch FROM current_setting('prompt_cache.history_max_age')::interval));
BEGIN
    DELETE FROM prompt_cache.user_prompt_cache
     WHERE id IN (SELECT id FROM prompt_cache.user_prompt_cache WHERE replaced_at < now() - max_age LIMIT 1000);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted >= 1000;
END
$$;
COMMENT ON FUNCTION prompt_cache._expire_rows() IS 'Deletes a thousand rows that were replaced longer than history_max_age ago; true if there may be more.';

CREATE FUNCTION prompt_cache._warm_user(user_key text, named boolean) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_warm_user';
COMMENT ON FUNCTION prompt_cache._warm_user(text, boolean) IS 'Brings one user into memory; true if it is there now. A key that is not of the key''s type is an error if it was named, else passed over.';

CREATE FUNCTION prompt_cache.warm(user_keys text[] DEFAULT NULL, max_users integer DEFAULT 100) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    key   text;
    warm  bigint := 0;
    named boolean := user_keys IS NOT NULL;
BEGIN
    IF max_users IS NULL OR max_users < 0 THEN
        RAISE EXCEPTION 'max_users must not be negative' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'It is the largest number of users to bring into memory.';
    END IF;
    IF NOT EXISTS (SELECT FROM prompt_cache.attachment) THEN
        RAISE EXCEPTION 'no chat schema is attached to prompt_cache in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Call prompt_cache.attach() once, naming the users and tenants tables.';
    END IF;
    IF user_keys IS NULL THEN
        user_keys := ARRAY(
            SELECT hot.user_key
              FROM (SELECT k.user_key, o.rank, k.n
                      FROM prompt_cache.usage_order o CROSS JOIN unnest(o.user_keys) WITH ORDINALITY AS k(user_key, n)
                     ORDER BY o.rank, k.n LIMIT max_users) hot
             ORDER BY hot.rank, hot.n);
        user_keys := user_keys || ARRAY(
            SELECT c.user_key FROM prompt_cache.user_prompt_cache c
             WHERE c.replaced_at IS NULL AND c.user_key <> ALL (user_keys)
             ORDER BY c.id DESC LIMIT max_users - cardinality(user_keys));
    END IF;
    FOR key IN SELECT DISTINCT k.key FROM unnest(user_keys) WITH ORDINALITY AS k(key, n)
                WHERE k.key IS NOT NULL AND k.n <= max_users LOOP
        BEGIN
            warm := warm + prompt_cache._warm_user(key, named)::integer;
        EXCEPTION
            WHEN query_canceled OR operator_intervention OR insufficient_resources THEN
                RAISE;
            WHEN OTHERS THEN
                IF named THEN
                    RAISE;
                END IF;
                RAISE WARNING 'the prompt of user "%" was not brought into memory: %', key, SQLERRM;
        END;
    END LOOP;
    RETURN warm;
END
$$;
COMMENT ON FUNCTION prompt_cache.warm(text[], integer) IS 'Brings users into memory: those named, or the most recently used of the durable tier; at most max_users. Returns how many of them are in memory now.';

----------------------------------------------------------------------------------------------------------------------
-- Rights

CREATE FUNCTION prompt_cache._reader_functions() RETURNS SETOF regprocedure
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.oid::regprocedure FROM pg_proc p
     WHERE p.pronamespace = 'prompt_cache'::regnamespace
       AND p.proname IN ('get_or_build', 'prompt', 'get_or_build_key', 'prompt_key')
$$;
COMMENT ON FUNCTION prompt_cache._reader_functions() IS 'What a backend''s role needs to read prompts.';

CREATE FUNCTION prompt_cache._check_namespace(namespace text) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF namespace IS NOT NULL AND namespace <> 'prompt' THEN
        RAISE EXCEPTION 'there is no namespace "%"', namespace USING ERRCODE = 'undefined_object',
            HINT = 'NULL means all namespaces; prompts are in the namespace "prompt".';
    END IF;
END
$$;
COMMENT ON FUNCTION prompt_cache._check_namespace(text) IS 'Raises an error if there is no such namespace.';

CREATE FUNCTION prompt_cache.allow(role regrole, namespace text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f regprocedure;
BEGIN
    PERFORM prompt_cache._check_namespace(namespace);
    EXECUTE format('GRANT USAGE ON SCHEMA prompt_cache TO %s', role);
    FOR f IN SELECT prompt_cache._reader_functions() LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', f, role);
    END LOOP;
    RETURN true;
END
$$;
COMMENT ON FUNCTION prompt_cache.allow(regrole, text) IS 'Gives a backend''s role what a reader needs: USAGE on the schema and EXECUTE on the reading functions.';

CREATE FUNCTION prompt_cache.deny(role regrole, namespace text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f regprocedure;
BEGIN
    PERFORM prompt_cache._check_namespace(namespace);
    FOR f IN SELECT prompt_cache._reader_functions() LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM %s', f, role);
    END LOOP;
    EXECUTE format('REVOKE USAGE ON SCHEMA prompt_cache FROM %s', role);
    RETURN true;
END
$$;
COMMENT ON FUNCTION prompt_cache.deny(regrole, text) IS 'Takes back what allow() gave.';

----------------------------------------------------------------------------------------------------------------------
-- Inspection

CREATE FUNCTION prompt_cache._stats(
    OUT namespace text, OUT entries bigint, OUT bytes bigint, OUT hits_memory bigint,
    OUT hits_database bigint, OUT built_calls bigint, OUT builds bigint, OUT build_micros bigint,
    OUT evictions bigint, OUT expirations bigint, OUT invalidations bigint, OUT bypasses bigint, OUT errors bigint,
    OUT stats_reset timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_stats';
COMMENT ON FUNCTION prompt_cache._stats() IS 'The counters behind the view stats.';

CREATE VIEW prompt_cache.stats AS
    SELECT s.namespace, s.entries, s.bytes,
           s.hits_memory + m.misses + s.bypasses AS lookups,
           s.hits_memory, 0::bigint AS hits_redis, s.hits_database, s.builds, m.misses,
           s.hits_memory::float8 / nullif(s.hits_memory + m.misses, 0) AS hit_rate,
           s.build_micros / 1000.0::float8 / nullif(s.builds, 0) AS build_ms_avg,
           s.evictions, s.expirations, s.invalidations, s.bypasses, s.errors, s.stats_reset
      FROM prompt_cache._stats() s
     CROSS JOIN LATERAL (SELECT s.hits_database + s.built_calls AS misses) m;
COMMENT ON VIEW prompt_cache.stats IS 'A row per namespace: entries and bytes in memory, lookups and where they were answered. lookups = hits_memory + misses + bypasses.';

CREATE FUNCTION prompt_cache._entries(
    OUT namespace text, OUT key text, OUT bytes bigint, OUT created_at timestamptz, OUT expires_at timestamptz,
    OUT frequency integer, OUT valid boolean, OUT layer text)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_entries';
COMMENT ON FUNCTION prompt_cache._entries() IS 'The rows behind the view entries.';

CREATE VIEW prompt_cache.entries AS SELECT * FROM prompt_cache._entries();
COMMENT ON VIEW prompt_cache.entries IS 'What this database has in memory, without values. A prompt is up to three entries: layer user (key = the user''s), tenant (key = the tenant''s) and application. valid: a lookup now would use it.';

CREATE VIEW prompt_cache.attachments AS
    SELECT a.users, a.user_key, a.user_tenant, a.user_prompt, a.tenants, a.tenant_key, a.tenant_prompt,
           w.problem IS NULL AND w.sound AS sound, w.problem
      FROM prompt_cache.attachment a CROSS JOIN prompt_cache._attachment() w;
COMMENT ON VIEW prompt_cache.attachments IS 'How the chat schema is wired. sound: every trigger stands and every column is there; otherwise nothing is cached.';

CREATE FUNCTION prompt_cache.verify(sample integer DEFAULT 1000, OUT namespace text, OUT key text, OUT tier text)
RETURNS SETOF record LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_verify';
COMMENT ON FUNCTION prompt_cache.verify(integer) IS 'Rebuilds about `sample` entries of every tier under one snapshot and returns those that differ: always none.';

CREATE FUNCTION prompt_cache._explain(key text) RETURNS SETOF text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_explain';
COMMENT ON FUNCTION prompt_cache._explain(text) IS 'The lines behind explain().';

CREATE FUNCTION prompt_cache.explain(namespace text, key text) RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM prompt_cache._check_namespace(namespace);
    RETURN QUERY SELECT prompt_cache._explain(key);
END
$$;
COMMENT ON FUNCTION prompt_cache.explain(text, text) IS 'What a lookup of this key would do now and why, a line of text each; stores nothing and shows no values.';

CREATE FUNCTION prompt_cache._stats_reset() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_stats_reset';
COMMENT ON FUNCTION prompt_cache._stats_reset() IS 'Sets the counters to zero.';

CREATE FUNCTION prompt_cache.stats_reset(namespace text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM prompt_cache._check_namespace(namespace);
    RETURN prompt_cache._stats_reset();
END
$$;
COMMENT ON FUNCTION prompt_cache.stats_reset(text) IS 'Sets the counters of a namespace, or of all, to zero; false where the library is not preloaded.';

CREATE FUNCTION prompt_cache._memory_status() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_memory_status';
COMMENT ON FUNCTION prompt_cache._memory_status() IS 'The memory tier''s accounts; NULL if the library is not preloaded.';

CREATE FUNCTION prompt_cache._worker_status() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_worker_status';
COMMENT ON FUNCTION prompt_cache._worker_status() IS 'The workers as this database sees them; NULL if the library is not preloaded.';

CREATE FUNCTION prompt_cache.health() RETURNS jsonb
    LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH memory AS MATERIALIZED (
        SELECT prompt_cache._memory_status() AS status
    ), worker AS MATERIALIZED (
        SELECT prompt_cache._worker_status() AS status
    ), wiring AS MATERIALIZED (
        SELECT w.* FROM (SELECT) one LEFT JOIN prompt_cache._attachment() w ON true
    ), broken AS MATERIALIZED (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'table', u.relation::regclass::text,
                   'trigger', format('prompt_cache_%s_%s', u.role, u.kind),
                   'repair', CASE WHEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = u.relation AND t.tgname = format('prompt_cache_%s_%s', u.role, u.kind))
                                  THEN format('ALTER TABLE %s ENABLE ALWAYS TRIGGER prompt_cache_%s_%s', u.relation::regclass, u.role, u.kind)
                                  ELSE 'SELECT prompt_cache.attach(...)' END)), '[]') AS triggers
          FROM prompt_cache._unsound_sources() u
    ), reason AS (
        SELECT 'critical' AS severity, 'triggers are missing or not ENABLE ALWAYS: nothing is cached' AS text
          FROM broken WHERE triggers <> '[]'
        UNION ALL
        SELECT 'critical', problem FROM wiring WHERE problem IS NOT NULL
        UNION ALL
        SELECT 'degraded', 'nothing is attached: call prompt_cache.attach()' FROM wiring WHERE sources IS NULL
        UNION ALL
        SELECT 'degraded', 'prompt_cache is not in shared_preload_libraries: every prompt is built'
          FROM memory WHERE status IS NULL
        UNION ALL
        SELECT 'degraded', r.text
          FROM worker JOIN (VALUES
               ('no slot', 'no background worker slot is free: prompts are not saved; raise max_worker_processes'),
               ('no place', 'more databases use prompt_cache than its workers can look after (64): prompts of this one are not saved'),
               ('off', 'the launcher of the workers does not run: prompts are not saved; raise max_worker_processes')) AS r(state, text)
            ON r.state = worker.status ->> 'state' AND NOT pg_is_in_recovery()
        UNION ALL
        SELECT 'degraded', 'the worker could not do all of its work: ' || p.problem
          FROM worker CROSS JOIN LATERAL jsonb_array_elements_text(worker.status -> 'problems') AS p(problem)
        UNION ALL
        SELECT 'degraded', 'a source is unlogged: prompts are cached in memory only' FROM wiring WHERE NOT durable
    )
    SELECT jsonb_build_object(
               'status', CASE WHEN bool_or(severity = 'critical') THEN 'critical'
                              WHEN bool_or(severity = 'degraded') THEN 'degraded' ELSE 'ok' END,
               'reasons', coalesce(jsonb_agg(text) FILTER (WHERE text IS NOT NULL), '[]'),
               'role', CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END,
               'preloaded', (SELECT status IS NOT NULL FROM memory),
               'version', (SELECT extversion FROM pg_extension WHERE extname = 'prompt_cache'),
               'tiers', jsonb_build_object(
                   'memory', (SELECT coalesce(status, '{"state": "off"}') FROM memory),
                   'redis', jsonb_build_object('state', 'off'),
                   'database', jsonb_build_object('state',
                       CASE WHEN (SELECT status IS NOT NULL FROM memory) AND (SELECT durable FROM wiring)
                             AND current_setting('prompt_cache.database', true)::boolean THEN 'on' ELSE 'off' END)),
               'triggers', (SELECT triggers FROM broken),
               'worker', (SELECT coalesce(status, '{"state": "off"}') FROM worker))
      FROM (SELECT) one LEFT JOIN reason ON true
$$;
COMMENT ON FUNCTION prompt_cache.health() IS 'The state of the cache as jsonb: status ok, degraded or critical, with reasons, the tiers, and statements that repair triggers.';

----------------------------------------------------------------------------------------------------------------------
-- Rights: nothing for PUBLIC; monitoring roles may look, not read.

REVOKE ALL ON ALL TABLES IN SCHEMA prompt_cache FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA prompt_cache FROM PUBLIC;

-- Who creates a partition of a source clones its trigger and must be allowed to. Nobody can call it otherwise.
GRANT EXECUTE ON FUNCTION prompt_cache._source_changed() TO PUBLIC;

GRANT USAGE ON SCHEMA prompt_cache TO pg_monitor;
GRANT SELECT ON prompt_cache.stats, prompt_cache.entries, prompt_cache.attachments TO pg_monitor;
GRANT EXECUTE ON FUNCTION prompt_cache.health(), prompt_cache.explain(text, text), prompt_cache._stats(), prompt_cache._entries(), prompt_cache._attachment()
   TO pg_monitor;
