-- prompt_cache 1.0: install script. Everything names its schema; functions in SQL and plpgsql fix their search_path.
\echo Use "CREATE EXTENSION prompt_cache" to load this file. \quit

-- Functions here run with the rights of their owner. So the schema must hold nothing yet, and nobody but superusers may add to it.
-- Everything that has a schema depends on it. This cannot be had from pg_has_role(): a superuser has every role.
DO $$
DECLARE
    schema_oid pg_catalog.oid := 'prompt_cache'::pg_catalog.regnamespace;
    what       pg_catalog.text;
BEGIN
    SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) INTO what FROM pg_catalog.pg_depend d
     WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) schema_oid
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension e
                        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
                          AND d.objid OPERATOR(pg_catalog.=) e.oid AND e.extname OPERATOR(pg_catalog.=) 'prompt_cache')
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'schema prompt_cache is not empty' USING ERRCODE = 'duplicate_schema',
            DETAIL = pg_catalog.format('There is %s.', what), HINT = 'ALTER SCHEMA prompt_cache RENAME TO prompt_cache_before;';
    END IF;
    SELECT pg_catalog.quote_ident(r.rolname) INTO what FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
     WHERE n.oid OPERATOR(pg_catalog.=) schema_oid AND NOT r.rolsuper;
    IF FOUND THEN
        RAISE EXCEPTION 'schema prompt_cache belongs to role %, which is no superuser', what USING ERRCODE = 'duplicate_schema',
            HINT = 'DROP SCHEMA prompt_cache;';
    END IF;
    SELECT pg_catalog.string_agg(DISTINCT coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC'), ', ') INTO what
      FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
      LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee
     WHERE n.oid OPERATOR(pg_catalog.=) schema_oid AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE' AND r.rolsuper IS NOT TRUE;
    IF what IS NOT NULL THEN
        -- A new schema, since somebody may have made something in the old one and not committed it yet.
        RAISE EXCEPTION 'role % may create objects in schema prompt_cache', what USING ERRCODE = 'duplicate_schema',
            HINT = pg_catalog.format('DROP SCHEMA IF EXISTS prompt_cache; CREATE SCHEMA prompt_cache; REVOKE CREATE ON SCHEMA prompt_cache FROM %s;', what);
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

-- Namespaces: whatever else is worth caching. The builder is kept as text, since pg_upgrade refuses regprocedure. Each change of
-- a namespace gives it another wiring: entries carry the number, so those of another builder are others.
CREATE FUNCTION prompt_cache._new_wiring() RETURNS integer
    LANGUAGE sql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (hashtext(gen_random_uuid()::text) & 1073741823) + 1
$$;
COMMENT ON FUNCTION prompt_cache._new_wiring() IS 'A random number for the wiring of a namespace.';

CREATE TABLE prompt_cache.namespace (
    -- A dump may come from a database of another encoding; the library counts on this length.
    namespace   text     PRIMARY KEY CHECK (octet_length(namespace) BETWEEN 1 AND 63),
    wiring      integer  NOT NULL UNIQUE DEFAULT prompt_cache._new_wiring(),
    builder     text,
    ttl         interval NOT NULL,
    max_entries integer  NOT NULL,
    sliding     boolean  NOT NULL,
    redis       boolean  NOT NULL,
    redis_ttl   interval,
    -- A name and no regrole: a restore where the role is not there must not lose the namespaces.
    maker       name     NOT NULL DEFAULT current_user
);
COMMENT ON TABLE prompt_cache.namespace IS 'The namespaces; written by prompt_cache.create_namespace() and its like.';

CREATE TABLE prompt_cache.watch (
    namespace   text     NOT NULL,
    source      regclass NOT NULL,
    key         text,
    columns     text[],
    key_columns text[]   NOT NULL,
    UNIQUE NULLS NOT DISTINCT (namespace, source, key, columns)
);
COMMENT ON TABLE prompt_cache.watch IS 'Which tables the entries of a namespace depend on; written by prompt_cache.watch().';

CREATE TABLE prompt_cache.reader (
    role      regrole NOT NULL,
    namespace text,
    UNIQUE NULLS NOT DISTINCT (role, namespace)
);
COMMENT ON TABLE prompt_cache.reader IS 'Who may read which namespace, NULL = all of them; written by prompt_cache.allow().';

SELECT pg_catalog.pg_extension_config_dump('prompt_cache.namespace', '');
SELECT pg_catalog.pg_extension_config_dump('prompt_cache.watch', '');
-- Not those whose role is gone: they would be dumped as a number, which may be another role's where they are restored.
SELECT pg_catalog.pg_extension_config_dump('prompt_cache.reader',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) role)');
CREATE TABLE prompt_cache.incarnation (
    id bigint PRIMARY KEY DEFAULT hashtextextended(gen_random_uuid()::text, 0)
);
INSERT INTO prompt_cache.incarnation DEFAULT VALUES;
-- Which columns were meant when attach() or watch() named them. A dump does not carry this, since a restore numbers columns anew; pg_upgrade
-- does. `trigger` is what the names of the registration's triggers begin with.
CREATE TABLE prompt_cache.registered_column (
    source  regclass NOT NULL,
    trigger text     NOT NULL,
    name    name     NOT NULL,
    number  smallint NOT NULL,
    PRIMARY KEY (source, trigger, name)
);
COMMENT ON TABLE prompt_cache.registered_column IS 'The columns that attach() and watch() named, by number: tells when another column has taken a name. Written again by housekeeping after a restore.';
COMMENT ON TABLE prompt_cache.incarnation IS 'A random number made by CREATE EXTENSION and carried by no dump: values in Redis belong to it.';

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

-- What the wiring says. Of the namespaces' tables the second argument names the column of the namespace whose values die with a row.
DO $$
DECLARE
    own record;
BEGIN
    FOR own IN SELECT * FROM (VALUES ('attachment', 'wiring', ''), ('namespace', 'namespaces', 'namespace'),
                                     ('watch', 'namespaces', 'namespace'), ('reader', 'namespaces', '')) AS x(name, kind, col) LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER prompt_cache_%1$s_changed AFTER INSERT OR UPDATE OR DELETE ON prompt_cache.%1$s FOR EACH ROW EXECUTE FUNCTION prompt_cache._source_changed(%2$L, %3$L)', own.name, own.kind, own.col);
        EXECUTE pg_catalog.format('CREATE TRIGGER prompt_cache_%1$s_truncated AFTER TRUNCATE ON prompt_cache.%1$s FOR EACH STATEMENT EXECUTE FUNCTION prompt_cache._source_changed(%2$L, %3$L)', own.name, own.kind, own.col);
        EXECUTE pg_catalog.format('ALTER TABLE prompt_cache.%1$s ENABLE ALWAYS TRIGGER prompt_cache_%1$s_changed, ENABLE ALWAYS TRIGGER prompt_cache_%1$s_truncated', own.name);
    END LOOP;
END
$$;

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
           (SELECT string_agg(convert_to(a.argument, getdatabaseencoding()) || decode('00', 'hex'), ''::bytea ORDER BY a.n)
              FROM root, unnest(root.arguments) WITH ORDINALITY AS a(argument, n) WHERE root.role = tree.role)
      FROM tree;
END
$$;
COMMENT ON FUNCTION prompt_cache._sources() IS 'Every source relation, partitions included, with the arguments its trigger must have.';

-- Does a trigger of ours stand on a relation as we have made it, ENABLE ALWAYS? With `arguments` NULL: with any.
CREATE FUNCTION prompt_cache._stands(relation oid, type integer, arguments bytea) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_trigger t
                    WHERE t.tgrelid = relation AND t.tgtype = type AND t.tgenabled = 'A'
                      AND t.tgfoid = 'prompt_cache._source_changed()'::regprocedure
                      AND t.tgqual IS NULL AND t.tgattr = ''::int2vector AND NOT t.tgdeferrable
                      AND t.tgargs = coalesce(arguments, t.tgargs))
$$;
COMMENT ON FUNCTION prompt_cache._stands(oid, integer, bytea) IS 'Does a trigger of ours stand on a relation, ENABLE ALWAYS?';

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
       AND NOT prompt_cache._stands(s.relation, k.tgtype, CASE k.kind WHEN 'changed' THEN s.arguments END);
END
$$;
COMMENT ON FUNCTION prompt_cache._unsound_sources() IS 'Sources whose changes might go unnoticed: nothing is stored while there is one.';

-- An unlogged table comes back empty after a crash, as if nothing had ever changed.
CREATE FUNCTION prompt_cache._proof_lasts() RETURNS boolean
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_class c WHERE c.oid = to_regclass('prompt_cache.tag_nonce') AND c.relpersistence = 'p')
$$;
COMMENT ON FUNCTION prompt_cache._proof_lasts() IS 'Is the table of changes there, and does it survive a crash?';

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

CREATE FUNCTION prompt_cache._is_column(relation oid, name text) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped)
$$;
COMMENT ON FUNCTION prompt_cache._is_column(oid, text) IS 'Is it the name of a column of the table? A prompt that is not is an expression over the row.';

-- Is there such a column, and does its text depend on nothing but its bytes?
CREATE FUNCTION prompt_cache._usable_prompt(relation oid, name text) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                    WHERE a.attrelid = relation AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped
                      AND a.attgenerated <> 'v'   -- a trigger does not see what is computed when read
                      AND (t.typcategory = 'S' OR a.atttypid IN ('json'::regtype, 'jsonb'::regtype)))
$$;
COMMENT ON FUNCTION prompt_cache._usable_prompt(oid, text) IS 'Can a column hold a prompt?';

CREATE FUNCTION prompt_cache._expression_objects(relation oid, expression text, OUT objects integer[], OUT versions integer[])
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_expression_objects';
COMMENT ON FUNCTION prompt_cache._expression_objects(oid, text) IS 'What an expression over a row is made of, as numbers that messages about DDL carry, and as rows of catalogs; NULL if it is none over a row of this table.';

CREATE FUNCTION prompt_cache._stable_function(relation oid, expression text) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_stable_function';
COMMENT ON FUNCTION prompt_cache._stable_function(oid, text) IS 'A STABLE function of the user''s in an expression over a row; NULL if there is none.';

-- A column by that name wins.
CREATE FUNCTION prompt_cache._prompt_objects(relation oid, prompt text, OUT objects integer[], OUT versions integer[])
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.objects, e.versions FROM prompt_cache._expression_objects(relation, prompt) e
     WHERE NOT prompt_cache._is_column(relation, prompt)
    UNION ALL
    SELECT '{}', '{}' WHERE prompt_cache._usable_prompt(relation, prompt)
$$;
COMMENT ON FUNCTION prompt_cache._prompt_objects(oid, text) IS 'As _expression_objects, of a column or an expression; NULL if it cannot be a prompt.';

CREATE FUNCTION prompt_cache._no_prompt(relation oid, prompt text) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT format(CASE WHEN prompt ~ '[( '']' THEN 'the expression %3$s no longer fits %1$I.%2$I'
                       ELSE '%I.%I has no usable prompt column %I' END, n.nspname, c.relname, prompt)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation
$$;
COMMENT ON FUNCTION prompt_cache._no_prompt(oid, text) IS 'What is wrong where a prompt is no longer there.';

CREATE FUNCTION prompt_cache._prompt_of_row(relation oid, prompt text, alias text) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN prompt_cache._is_column(relation, prompt) THEN format('%s.%I', alias, prompt) ELSE format('(%s)', prompt) END
$$;
COMMENT ON FUNCTION prompt_cache._prompt_of_row(oid, text, text) IS 'A prompt as builder queries have it: a column, or an expression over the row.';

-- Can a column point to keys of this type?
CREATE FUNCTION prompt_cache._usable_pointer(relation oid, name text, key_type text) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT k.type IS NOT NULL AND (key_type = k.type OR 'text' IN (key_type, k.type))
                       FROM pg_attribute a CROSS JOIN LATERAL (SELECT prompt_cache._key_type(a.atttypid)) AS k(type)
                      WHERE a.attrelid = relation AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped
                        AND a.attgenerated <> 'v'), false)
$$;
COMMENT ON FUNCTION prompt_cache._usable_pointer(oid, text, text) IS 'Can a column hold the tenant''s key?';

CREATE FUNCTION prompt_cache._expression_columns(relation oid, expression text) RETURNS text[]
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_expression_columns';
COMMENT ON FUNCTION prompt_cache._expression_columns(oid, text) IS 'The columns that a column''s name or an expression over the row reads; NULL if it is none of this table, or somebody has it locked.';

-- Where a registered name belongs to another column now, while the column that had it is still there under another name, views and
-- SQL-standard function bodies read the one and text reads the other: nobody knows which one was meant. Where the old column is gone, the new
-- one is. Where the name is gone, triggers invalidate everything. What is attached is read by our own queries, which name columns as the
-- triggers do: prompts stay exact, and are cached.
CREATE FUNCTION prompt_cache._moved_columns(space text) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT format('column %I of %s is not the one that %s named, which is called %I now; to mean that one: %s to mean the one that has the name: %s',
                      m.name, m.source, CASE WHEN space IS NULL THEN 'attach()' ELSE 'watch()' END, m.now_called,
                      CASE WHEN space IS NULL THEN prompt_cache._attach_call(true)
                           ELSE format('SELECT prompt_cache.unwatch(%L, %L); ', m.source, space) || prompt_cache._watch_calls(m.source, space, true) END,
                      CASE WHEN space IS NULL THEN prompt_cache._attach_call(false) ELSE prompt_cache._watch_calls(m.source, space, false) END)
          FROM (SELECT r.source, r.name, a.attname AS now_called
                  FROM prompt_cache.registered_column r
                  JOIN pg_attribute a ON a.attrelid = r.source AND a.attnum = r.number AND a.attname <> r.name AND NOT a.attisdropped
                 WHERE prompt_cache._is_column(r.source, r.name)
                   AND CASE WHEN space IS NULL THEN r.trigger IN ('prompt_cache_user', 'prompt_cache_tenant')
                            ELSE EXISTS (SELECT FROM prompt_cache.watch w
                                          WHERE w.namespace = space AND w.source = r.source AND prompt_cache._watch_trigger(w) = r.trigger) END
                 ORDER BY r.source, r.trigger, r.name LIMIT 1) m);
END
$$;
COMMENT ON FUNCTION prompt_cache._moved_columns(text) IS 'Which name of a namespace''s watches (NULL: of the attached tables) belongs to another column than when it was registered, and what to do; NULL if none.';

CREATE FUNCTION prompt_cache._attachment(
    OUT user_key_type text, OUT tenant_key_type text, OUT owners oid[], OUT tables oid[], OUT queries text[], OUT conditions text[],
    OUT problem text,
    OUT sound boolean, OUT durable boolean, OUT sources oid[], OUT schemas oid[], OUT objects integer[], OUT versions integer[], OUT storage bigint,
    OUT moved text)
RETURNS SETOF record LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT ut.name, tt.name,
           ARRAY[(SELECT c.relowner FROM pg_class c WHERE c.oid = 'prompt_cache.application'::regclass),
                 coalesce(t.relowner, 0), coalesce(u.relowner, 0)],
           ARRAY['prompt_cache.application'::regclass::oid, coalesce(t.oid, 0), coalesce(u.oid, 0), coalesce(u.oid, 0)],
           -- Up to the table's name, which is looked up when the table is locked, and behind it.
           ARRAY['SELECT prompt FROM ONLY ',
                 CASE WHEN t.oid IS NOT NULL THEN
                     format('SELECT %s::pg_catalog.text FROM %s ', prompt_cache._prompt_of_row(t.oid, a.tenant_prompt, 't'),
                            CASE t.relkind WHEN 'r' THEN 'ONLY' END)
                 ELSE '' END,
                 coalesce(format('SELECT %s::pg_catalog.text, %s FROM %s ', prompt_cache._prompt_of_row(u.oid, a.user_prompt, 'u'),
                        CASE WHEN t.oid IS NOT NULL
                             THEN format('u.%I::pg_catalog.%s::pg_catalog.text', a.user_tenant,
                                         CASE tt.name WHEN 'bigint' THEN 'int8' ELSE tt.name END)
                             ELSE 'NULL::pg_catalog.text' END,
                        CASE u.relkind WHEN 'r' THEN 'ONLY' END), ''),
                 format('SELECT 1 FROM %s ', CASE u.relkind WHEN 'r' THEN 'ONLY' END)],
           ARRAY['', CASE WHEN t.oid IS NOT NULL THEN format(' t WHERE t.%I OPERATOR(pg_catalog.=) $1', a.tenant_key) ELSE '' END,
                 format(' u WHERE u.%I OPERATOR(pg_catalog.=) $1', a.user_key), format(' u WHERE u.%I OPERATOR(pg_catalog.=) $1', a.user_key)],
           CASE WHEN u.oid IS NULL THEN 'the users table is gone'
                WHEN a.tenants IS NOT NULL AND t.oid IS NULL THEN 'the tenants table is gone'
                WHEN ut.name IS NULL THEN format('%I.%I has no usable key column %I', un.nspname, u.relname, a.user_key)
                WHEN t.oid IS NOT NULL AND tt.name IS NULL
                THEN format('%I.%I has no usable key column %I', tn.nspname, t.relname, a.tenant_key)
                WHEN up.objects IS NULL THEN prompt_cache._no_prompt(u.oid, a.user_prompt)
                WHEN t.oid IS NOT NULL AND tp.objects IS NULL THEN prompt_cache._no_prompt(t.oid, a.tenant_prompt)
                WHEN t.oid IS NOT NULL AND NOT prompt_cache._usable_pointer(u.oid, a.user_tenant, tt.name)
                THEN format('%I.%I has no usable tenant column %I', un.nspname, u.relname, a.user_tenant)
                WHEN EXISTS (SELECT FROM prompt_cache._sources() s JOIN pg_class c ON c.oid = s.relation
                              WHERE c.relkind NOT IN ('r', 'p'))
                THEN 'a source is not a table any more'
           END,
           NOT EXISTS (SELECT FROM prompt_cache._unsound_sources()),
           prompt_cache._proof_lasts()
           AND NOT EXISTS (SELECT FROM prompt_cache._sources() s JOIN pg_class c ON c.oid = s.relation WHERE c.relpersistence <> 'p'),
           ARRAY(SELECT s.relation FROM prompt_cache._sources() s
                 UNION ALL SELECT 'prompt_cache.attachment'::regclass::oid),
           ARRAY(SELECT DISTINCT c.relnamespace FROM pg_class c WHERE c.oid IN (a.users, a.tenants)),
           coalesce(up.objects, '{}') || coalesce(tp.objects, '{}'), coalesce(up.versions, '{}') || coalesce(tp.versions, '{}'),
           -- TRUNCATE of a partition fires no trigger of ours; where the library is not preloaded only this tells of it.
           (SELECT coalesce(bit_xor(hashint8extended(c.relfilenode::bigint, c.oid::bigint)), 0)
              FROM prompt_cache._sources() s JOIN pg_class c ON c.oid = s.relation WHERE NOT s.is_root),
           m.moved
      FROM prompt_cache.attachment a
      LEFT JOIN pg_class u ON u.oid = a.users
      LEFT JOIN pg_namespace un ON un.oid = u.relnamespace
      LEFT JOIN pg_class t ON t.oid = a.tenants
      LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
     CROSS JOIN LATERAL (SELECT prompt_cache._usable_key(u.oid, a.user_key)) AS ut(name)
     CROSS JOIN LATERAL (SELECT prompt_cache._usable_key(t.oid, a.tenant_key)) AS tt(name)
     CROSS JOIN LATERAL prompt_cache._prompt_objects(u.oid, a.user_prompt) AS up
     CROSS JOIN LATERAL prompt_cache._prompt_objects(t.oid, a.tenant_prompt) AS tp
     CROSS JOIN LATERAL (SELECT CASE WHEN EXISTS (  -- mostly not; one probe of an index a column
                             SELECT FROM prompt_cache.registered_column r
                              WHERE r.name <> (SELECT c.attname FROM pg_attribute c
                                                WHERE c.attrelid = r.source AND c.attnum = r.number AND NOT c.attisdropped)) THEN prompt_cache._moved_columns(NULL) END) AS m(moved);
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

CREATE FUNCTION prompt_cache.get_with_tags(user_key text, OUT prompt text, OUT tags text[])
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_get_with_tags';
COMMENT ON FUNCTION prompt_cache.get_with_tags(text) IS 'A user''s prompt with the tags it hangs on, for a process that keeps prompts of its own and listens to invalidation_channel(): it forgets a prompt when one of its tags is named there.';

CREATE FUNCTION prompt_cache.invalidation_channel() RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_invalidation_channel';
COMMENT ON FUNCTION prompt_cache.invalidation_channel() IS 'The channel of Redis on which the tags of this database are published after they were changed.';

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

-- Raises an error with a hint if changes of a table could not be noticed.
CREATE FUNCTION prompt_cache._check_table(source regclass) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rel  record;
    leaf regclass;
BEGIN
    SELECT c.*, n.nspname INTO rel FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'relation with OID % does not exist', source::oid USING ERRCODE = 'undefined_table',
            HINT = 'Name the tables: prompt_cache.attach(users => ''schema.table'', tenants => ''schema.table'').';
    END IF;
    IF rel.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is not a table', source USING ERRCODE = 'wrong_object_type',
            DETAIL = 'Changes of views, materialized views and foreign tables cannot be noticed by triggers.',
            HINT = 'Name the tables behind it.';
    END IF;
    IF rel.relpersistence = 't' THEN
        RAISE EXCEPTION '% is a temporary table', source USING ERRCODE = 'wrong_object_type',
            HINT = 'Name a permanent table.';
    END IF;
    IF rel.nspname IN ('pg_catalog', 'information_schema', 'pg_toast') THEN
        RAISE EXCEPTION '% is a system catalog', source USING ERRCODE = 'wrong_object_type',
            HINT = 'Name the application''s own tables.';
    END IF;
    IF rel.nspname = 'prompt_cache' THEN
        RAISE EXCEPTION '% belongs to prompt_cache itself', source USING ERRCODE = 'wrong_object_type',
            HINT = 'Name the application''s own tables.';
    END IF;
    SELECT c.oid INTO leaf FROM pg_partition_tree(source) t JOIN pg_class c ON c.oid = t.relid
     WHERE c.relkind NOT IN ('r', 'p') LIMIT 1;
    IF leaf IS NOT NULL THEN
        RAISE EXCEPTION 'partition % of % is a foreign table', leaf, source USING ERRCODE = 'wrong_object_type',
            HINT = 'Changes behind a foreign table cannot be noticed.';
    END IF;
END
$$;
COMMENT ON FUNCTION prompt_cache._check_table(regclass) IS 'Raises an error with a hint if changes of a table could not be noticed.';

-- Raises an error with a hint if `source` cannot be a source; returns its key column.
CREATE FUNCTION prompt_cache._check_source(source regclass, role text, key name, columns name[]) RETURNS name
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rel      record;
    key_name name := key;
    keys     int2vector;
    missing  name;
    att      record;
BEGIN
    PERFORM prompt_cache._check_table(source);
    SELECT c.* INTO rel FROM pg_class c WHERE c.oid = source;
    IF rel.relforcerowsecurity
       AND NOT (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles r WHERE r.oid = rel.relowner) THEN
        RAISE EXCEPTION 'row-level security is forced on the owner of %', source
            USING ERRCODE = 'object_not_in_prerequisite_state',
            DETAIL = 'A cached prompt is a function of its key alone, so the builder must read every row.',
            HINT = format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY, or give role %I the attribute BYPASSRLS.',
                          source, rel.relowner::regrole);
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
     WHERE c.name IS NOT NULL AND NOT prompt_cache._is_column(source, c.name)
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

CREATE FUNCTION prompt_cache._column_of_prompt(source regclass, prompt text) RETURNS name[]
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN prompt_cache._is_column(source, prompt) OR prompt ~ '^[\w$.]*$' OR (prompt_cache._expression_objects(source, prompt)).objects IS NULL
                THEN ARRAY[prompt::name] ELSE '{}' END
$$;
COMMENT ON FUNCTION prompt_cache._column_of_prompt(regclass, text) IS 'The column that a prompt is meant to be; none if it is an expression.';

CREATE FUNCTION prompt_cache._check_prompt_column(source regclass, col text) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    att record;
BEGIN
    SELECT a.atttypid, a.atttypmod, t.typcategory INTO att FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = source AND a.attname = col AND a.attnum > 0;
    -- Of an expression attach() has seen the type.
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

-- Triggers are made and dropped by the table's OID, under a lock that is taken first: see src/source_triggers.cpp.
CREATE FUNCTION prompt_cache._put_triggers(source oid, name text, arguments text[]) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_put_triggers';
COMMENT ON FUNCTION prompt_cache._put_triggers(oid, text, text[]) IS 'Puts our triggers on a table, in the place of those of the same names.';

CREATE FUNCTION prompt_cache._drop_triggers(source oid, name text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_drop_triggers';
COMMENT ON FUNCTION prompt_cache._drop_triggers(oid, text) IS 'Takes our triggers of these names off a table; false if the table is gone.';

CREATE FUNCTION prompt_cache._enable_triggers(relation oid) RETURNS integer
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_enable_triggers';
COMMENT ON FUNCTION prompt_cache._enable_triggers(oid) IS 'Turns our triggers on one relation from ENABLE back to ENABLE ALWAYS: how many; NULL where somebody has it locked.';

CREATE FUNCTION prompt_cache._detach_triggers() RETURNS boolean
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT prompt_cache._drop_triggers(users, 'prompt_cache_user'), prompt_cache._drop_triggers(tenants, 'prompt_cache_tenant')
      FROM prompt_cache.attachment;
    DELETE FROM prompt_cache.registered_column WHERE trigger IN ('prompt_cache_user', 'prompt_cache_tenant');
    SELECT true
$$;
COMMENT ON FUNCTION prompt_cache._detach_triggers() IS 'Takes our triggers off the attached tables.';

-- Every attached table and every watch, and the columns that it names; NULL where that cannot be found out now.
CREATE FUNCTION prompt_cache._registrations(OUT namespace text, OUT source oid, OUT trigger text, OUT columns text[])
RETURNS SETOF record LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT w.namespace, w.source::oid, prompt_cache._watch_trigger(w), w.key_columns || w.columns FROM prompt_cache.watch w
    UNION ALL
    SELECT NULL, x.source, x.trigger, CASE WHEN p.columns IS NOT NULL THEN x.columns || p.columns END
      FROM prompt_cache.attachment a
     CROSS JOIN LATERAL (VALUES (a.users::oid, 'prompt_cache_user', array_remove(ARRAY[a.user_key, a.user_tenant]::text[], NULL), a.user_prompt),
                                (a.tenants::oid, 'prompt_cache_tenant', ARRAY[a.tenant_key]::text[], a.tenant_prompt)) AS x(source, trigger, columns, prompt)
     CROSS JOIN LATERAL (SELECT prompt_cache._expression_columns(x.source, x.prompt)) AS p(columns)
     WHERE x.source IS NOT NULL;
END
$$;
COMMENT ON FUNCTION prompt_cache._registrations() IS 'Every attached table and every watch, and the columns that it names.';

-- false: they were registered already, by these names and numbers or for the first time since a restore.
CREATE FUNCTION prompt_cache._register_columns(source oid, trigger text, columns text[]) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    moved boolean;
BEGIN
    DELETE FROM prompt_cache.registered_column r
     WHERE (r.source, r.trigger) = (_register_columns.source, _register_columns.trigger)
       AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = r.source AND a.attnum = r.number AND a.attname = r.name);
    moved := FOUND;
    INSERT INTO prompt_cache.registered_column (source, trigger, name, number)
    SELECT a.attrelid, _register_columns.trigger, a.attname, a.attnum
      FROM pg_attribute a
     WHERE a.attrelid = _register_columns.source AND a.attname = ANY (columns) AND a.attnum > 0 AND NOT a.attisdropped
    ON CONFLICT DO NOTHING;
    RETURN moved;
END
$$;
COMMENT ON FUNCTION prompt_cache._register_columns(oid, text, text[]) IS 'Notes which columns the names of a registration mean now; true if one of them meant another.';

-- After a restore, which numbers columns anew.
CREATE FUNCTION prompt_cache._register_missing_columns() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM prompt_cache._register_columns(r.source, r.trigger, r.columns)
       FROM prompt_cache._registrations() r
      WHERE NOT EXISTS (SELECT FROM prompt_cache.registered_column c WHERE (c.source, c.trigger) = (r.source, r.trigger));
END
$$;
COMMENT ON FUNCTION prompt_cache._register_missing_columns() IS 'Notes which columns are meant by registrations of which it is not known.';

-- With `follow` columns have the names that they have now, otherwise names stay. '...' stands for an expression that would have to follow.
CREATE FUNCTION prompt_cache._now_called(source oid, trigger text, written text, follow boolean) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN NOT follow OR written IS NULL THEN written
                WHEN r.name IS NOT NULL THEN coalesce(a.attname, written)
                WHEN EXISTS (SELECT FROM prompt_cache.registered_column c JOIN pg_attribute m ON m.attrelid = c.source AND m.attnum = c.number
                              WHERE (c.source, c.trigger) = (_now_called.source, _now_called.trigger) AND m.attname <> c.name AND NOT m.attisdropped
                                AND c.name = ANY (prompt_cache._expression_columns(c.source, written)))
                THEN '...'
                ELSE written END
      FROM (SELECT) one
      LEFT JOIN prompt_cache.registered_column r ON (r.source, r.trigger, r.name) = (_now_called.source, _now_called.trigger, written)
      LEFT JOIN pg_attribute a ON a.attrelid = r.source AND a.attnum = r.number AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION prompt_cache._now_called(oid, text, text, boolean) IS 'The name that a registered column has now.';

CREATE FUNCTION prompt_cache._attach_call(follow boolean) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('SELECT prompt_cache.attach(%s);', string_agg(format('%s => %L', x.argument,
               CASE WHEN x.trigger IS NULL THEN x.value ELSE prompt_cache._now_called(x.source, x.trigger, x.value, follow) END), ', ' ORDER BY x.n))
      FROM prompt_cache.attachment a
     CROSS JOIN LATERAL (VALUES (1, 'users', a.users::text, NULL::oid, NULL::text), (2, 'tenants', a.tenants::text, NULL, NULL),
                                (3, 'user_key', a.user_key, a.users, 'prompt_cache_user'), (4, 'user_tenant', a.user_tenant, a.users, 'prompt_cache_user'),
                                (5, 'user_prompt', a.user_prompt, a.users, 'prompt_cache_user'), (6, 'tenant_key', a.tenant_key, a.tenants, 'prompt_cache_tenant'),
                                (7, 'tenant_prompt', a.tenant_prompt, a.tenants, 'prompt_cache_tenant')) AS x(n, argument, value, source, trigger)
$$;
COMMENT ON FUNCTION prompt_cache._attach_call(boolean) IS 'The call of attach() that wires the attached tables.';

CREATE FUNCTION prompt_cache._watch_calls(source oid, space text, follow boolean) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format('SELECT prompt_cache.watch(%L, %L%s%s);', w.source, w.namespace,
                             ', key => ' || quote_literal(prompt_cache._now_called(w.source, prompt_cache._watch_trigger(w), w.key, follow)),
                             ', columns => ' || quote_literal((SELECT array_agg(prompt_cache._now_called(w.source, prompt_cache._watch_trigger(w), c.name, follow) ORDER BY c.n)
                                                                 FROM unnest(w.columns) WITH ORDINALITY AS c(name, n)))),
                      ' ' ORDER BY w.key, w.columns)
      FROM prompt_cache.watch w WHERE w.source = _watch_calls.source AND w.namespace = space
$$;
COMMENT ON FUNCTION prompt_cache._watch_calls(oid, text, boolean) IS 'The calls of watch() that a namespace''s watches of a table come from.';

CREATE FUNCTION prompt_cache._create_triggers(source regclass, role text, arguments text[]) RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT prompt_cache._put_triggers(source, format('prompt_cache_%s', role), role || arguments)
$$;
COMMENT ON FUNCTION prompt_cache._create_triggers(regclass, text, text[]) IS 'Puts the triggers of an attached table on it.';

-- Turns our triggers back to ENABLE ALWAYS where a restore or ENABLE TRIGGER ALL has changed them. A table that somebody has
-- locked is left for later: who waits for such a lock holds up everybody who comes after.
CREATE FUNCTION prompt_cache._repair_triggers(OUT repaired integer, OUT locked integer)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t       record;
    enabled integer;
BEGIN
    repaired := 0;
    locked := 0;
    FOR t IN SELECT DISTINCT s.relation
               FROM (SELECT relation FROM prompt_cache._sources() UNION SELECT relation FROM prompt_cache._watch_sources()) s
               JOIN pg_trigger g ON g.tgrelid = s.relation
              WHERE g.tgfoid = 'prompt_cache._source_changed()'::regprocedure AND g.tgenabled = 'O'
              ORDER BY s.relation
    LOOP
        enabled := prompt_cache._enable_triggers(t.relation);
        repaired := repaired + coalesce((enabled > 0)::integer, 0);
        locked := locked + (enabled IS NULL)::integer;
    END LOOP;
    PERFORM prompt_cache._register_missing_columns();
END
$$;
COMMENT ON FUNCTION prompt_cache._repair_triggers() IS 'Turns our triggers from ENABLE back to ENABLE ALWAYS: on how many tables, and how many are locked by somebody. Also notes which columns are meant where that is not known.';

CREATE FUNCTION prompt_cache._purge() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_purge';
COMMENT ON FUNCTION prompt_cache._purge() IS 'Deletes the durable rows of users that are gone.';

-- The work of attach(), as the extension's owner. attach() has locked `attachment`, so that there is one attach() at a
-- time and none beside the commit of DDL that has asked what the sources are, and the tables, and has then checked that
-- its caller owns them.
CREATE FUNCTION prompt_cache._attach(
    users regclass, tenants regclass, user_key name, user_tenant name, user_prompt text, tenant_key name, tenant_prompt text)
RETURNS boolean LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    found_user_key   name;
    found_tenant_key name;
BEGIN
    IF users IS NULL THEN
        RAISE EXCEPTION 'there is no table "users"' USING ERRCODE = 'undefined_table',
            HINT = 'Name the table: prompt_cache.attach(users => ''schema.table'', tenants => ''schema.table'').';
    END IF;
    IF user_prompt IS NULL THEN
        RAISE EXCEPTION 'user_prompt must not be NULL' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'Name the column of the users table that holds the prompt.';
    END IF;
    found_user_key := prompt_cache._check_source(users, 'user', user_key,
        prompt_cache._column_of_prompt(users, user_prompt) || CASE WHEN tenants IS NOT NULL THEN user_tenant END);
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
        found_tenant_key := prompt_cache._check_source(tenants, 'tenant', tenant_key, prompt_cache._column_of_prompt(tenants, tenant_prompt));
        PERFORM prompt_cache._check_tenant_column(users, user_tenant, tenants, found_tenant_key);
        PERFORM prompt_cache._check_prompt_column(tenants, tenant_prompt);
    END IF;

    PERFORM prompt_cache._detach_triggers();
    DELETE FROM prompt_cache.attachment;
    INSERT INTO prompt_cache.attachment (users, tenants, user_key, user_tenant, user_prompt, tenant_key, tenant_prompt)
    VALUES (users, tenants, found_user_key, user_tenant, user_prompt, found_tenant_key, tenant_prompt);
    IF tenants IS NULL THEN
        PERFORM prompt_cache._create_triggers(users, 'user'::text, ARRAY[found_user_key::text, user_prompt]);
    ELSE
        PERFORM prompt_cache._create_triggers(users, 'user'::text, ARRAY[found_user_key::text, user_prompt, user_tenant::text]);
        PERFORM prompt_cache._create_triggers(tenants, 'tenant'::text, ARRAY[found_tenant_key::text, tenant_prompt]);
    END IF;
    PERFORM prompt_cache._register_columns(r.source, r.trigger, r.columns) FROM prompt_cache._registrations() r WHERE r.namespace IS NULL;
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
    'Wires the chat schema: puts triggers on the users and tenants tables and makes their columns, or expressions over their rows, the builder. Calling it again replaces the wiring. The caller must own the tables.';

CREATE FUNCTION prompt_cache._detach() RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM prompt_cache._detach_triggers();
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
    PERFORM prompt_cache._purge_readers();
    RETURN deleted >= 1000;
END
$$;
COMMENT ON FUNCTION prompt_cache._expire_rows() IS 'Deletes a thousand rows that were replaced longer than history_max_age ago, and rows of reader that do not count; true if there may be more.';

CREATE FUNCTION prompt_cache._warm_user(user_key text, named boolean) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_warm_user';
COMMENT ON FUNCTION prompt_cache._warm_user(text, boolean) IS 'Brings one user into memory; true if it is there now. What cannot be built is an error if it was named, else a WARNING; a key that is not of the key''s type is passed over then.';

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
        warm := warm + prompt_cache._warm_user(key, named)::integer;
    END LOOP;
    RETURN warm;
END
$$;
COMMENT ON FUNCTION prompt_cache.warm(text[], integer) IS 'Brings users into memory: those named, or the most recently used of the durable tier; at most max_users. Returns how many of them are in memory now.';

----------------------------------------------------------------------------------------------------------------------
-- Namespaces

-- The relations on which each watch needs its triggers, partitions included, and the arguments they must have.
CREATE FUNCTION prompt_cache._watch_sources(
    OUT namespace text, OUT relation oid, OUT is_root boolean, OUT trigger text, OUT arguments bytea,
    OUT columns text[], OUT key_columns text[])
RETURNS SETOF record LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE tree AS (
        SELECT w.namespace, w.source::oid AS relation, true AS is_root, prompt_cache._watch_trigger(w) AS trigger,
               (SELECT string_agg(convert_to(a.argument, getdatabaseencoding()) || decode('00', 'hex'), ''::bytea ORDER BY a.n)
                  FROM unnest(prompt_cache._watch_arguments(w)) WITH ORDINALITY AS a(argument, n)) AS arguments,
               w.columns, w.key_columns
          FROM prompt_cache.watch w
        UNION ALL
        SELECT tree.namespace, i.inhrelid, false, tree.trigger, tree.arguments, tree.columns, tree.key_columns
          FROM tree
          JOIN pg_class c ON c.oid = tree.relation AND c.relkind = 'p'
          JOIN pg_inherits i ON i.inhparent = tree.relation
    )
    SELECT * FROM tree;
END
$$;
COMMENT ON FUNCTION prompt_cache._watch_sources() IS 'Every watched relation, partitions included, with the arguments its trigger must have.';

CREATE FUNCTION prompt_cache._unsound_watches(OUT namespace text, OUT relation oid, OUT trigger text)
RETURNS SETOF record LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT s.namespace, s.relation, s.trigger || '_' || k.kind
      FROM prompt_cache._watch_sources() s
     CROSS JOIN (VALUES ('changed', 29), ('truncated', 32)) AS k(kind, tgtype)
     WHERE (k.kind = 'changed' OR s.is_root)
       AND NOT prompt_cache._stands(s.relation, k.tgtype, s.arguments);
END
$$;
COMMENT ON FUNCTION prompt_cache._unsound_watches() IS 'Watched relations whose changes might go unnoticed: nothing of their namespaces is stored while there is one.';

-- The wiring of a namespace as a lookup needs it; see src/cache/namespace.cpp.
CREATE FUNCTION prompt_cache._namespace(
    name text, OUT wiring integer, OUT builder oid, OUT ttl bigint,
    OUT max_entries integer, OUT sliding boolean, OUT redis boolean, OUT redis_ttl bigint, OUT sound boolean,
    OUT durable boolean, OUT problem text, OUT readers oid[], OUT watched bigint[],
    OUT storage bigint, OUT moved text)
RETURNS SETOF record LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT n.wiring, coalesce(p.oid, 0::oid),
           (extract(epoch FROM n.ttl) * 1000000)::bigint, n.max_entries, n.sliding, n.redis,
           (extract(epoch FROM n.redis_ttl) * 1000000)::bigint,
           NOT EXISTS (SELECT FROM prompt_cache._unsound_watches() u WHERE u.namespace = n.namespace) AND m.moved IS NULL,
           prompt_cache._proof_lasts()
           AND NOT EXISTS (SELECT FROM prompt_cache._watch_sources() o JOIN pg_class c ON c.oid = o.relation
                        WHERE o.namespace = n.namespace AND c.relpersistence <> 'p'),
           CASE WHEN n.builder IS NOT NULL AND p.oid IS NULL THEN format('its builder %s is gone', n.builder)
                WHEN p.provolatile = 'v' THEN format('its builder %s is VOLATILE', n.builder)
                WHEN EXISTS (SELECT FROM prompt_cache.watch w
                              WHERE w.namespace = n.namespace
                                AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.source AND c.relkind IN ('r', 'p')))
                THEN 'a watched table is gone'
                ELSE (SELECT b.problem FROM prompt_cache._builder_problem(p.oid) b)
           END,
           ARRAY(SELECT r.role::oid FROM prompt_cache.reader r
                  WHERE (r.namespace IS NULL OR r.namespace = n.namespace) AND prompt_cache._counts_as_reader(r.role)),
           coalesce(string_to_array((
               -- relation, number of columns or -1 for all, the columns; and so on
               SELECT string_agg(format('%s,%s', x.relation,
                          CASE WHEN x.everything THEN '-1'
                               ELSE (SELECT format('%s%s', count(*), coalesce(',' || string_agg(a.attnum::text, ','), ''))
                                       FROM pg_attribute a
                                      WHERE a.attrelid = x.relation AND a.attnum > 0 AND NOT a.attisdropped
                                        AND EXISTS (SELECT FROM prompt_cache._watch_sources() o
                                                     WHERE o.namespace = n.namespace AND o.relation = x.relation
                                                       AND a.attname = ANY (o.columns || o.key_columns)))
                          END), ',')
                 -- A foreign partition has our trigger too, which does not fire when its rows change elsewhere.
                 FROM (SELECT o.relation, bool_or(o.columns IS NULL) AS everything
                         FROM prompt_cache._watch_sources() o JOIN pg_class c ON c.oid = o.relation
                        WHERE o.namespace = n.namespace AND c.relkind IN ('r', 'p') GROUP BY o.relation) x),
               ',')::bigint[], '{}'),
           -- TRUNCATE of a partition fires no trigger of ours; where the library is not preloaded only this tells of it.
           (SELECT coalesce(bit_xor(hashint8extended(c.relfilenode::bigint, c.oid::bigint)), 0)
              FROM (SELECT DISTINCT o.relation FROM prompt_cache._watch_sources() o
                     WHERE o.namespace = n.namespace AND NOT o.is_root) x
              JOIN pg_class c ON c.oid = x.relation),
           m.moved
      FROM prompt_cache.namespace n
      LEFT JOIN pg_proc p ON p.oid = to_regprocedure(n.builder)
     CROSS JOIN LATERAL (SELECT CASE WHEN EXISTS (
                             SELECT FROM prompt_cache.registered_column r
                              WHERE r.name <> (SELECT c.attname FROM pg_attribute c
                                                WHERE c.attrelid = r.source AND c.attnum = r.number AND NOT c.attisdropped)) THEN prompt_cache._moved_columns(n.namespace) END) AS m(moved)
     WHERE n.namespace = _namespace.name;
END
$$;
COMMENT ON FUNCTION prompt_cache._namespace(text) IS 'The wiring of a namespace as a lookup needs it.';

CREATE FUNCTION prompt_cache._builder_problem(builder oid, OUT problem text, OUT hint text)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_builder_problem';
COMMENT ON FUNCTION prompt_cache._builder_problem(oid) IS 'Why a builder must not run, since code of others could run in it, and a statement that ends it; NULL if it may.';

CREATE FUNCTION prompt_cache._check_builder(builder regprocedure) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p pg_proc;
    b record;
BEGIN
    IF builder IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT * INTO p FROM pg_proc WHERE oid = builder;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'function with OID % does not exist', builder::oid USING ERRCODE = 'undefined_function',
            HINT = 'Name the builder: builder => ''schema.function(text)''.';
    END IF;
    IF p.prokind <> 'f' OR p.proretset OR p.prorettype <> 'text'::regtype OR p.proargtypes <> format('%s', 'text'::regtype::oid)::oidvector THEN
        RAISE EXCEPTION '% cannot be a builder', builder USING ERRCODE = 'invalid_function_definition',
            DETAIL = 'It must be a function that takes one text, the key, and returns one text, the value.',
            HINT = 'CREATE FUNCTION name(key text) RETURNS text STABLE ...';
    END IF;
    IF p.provolatile = 'v' THEN
        RAISE EXCEPTION 'builder % is VOLATILE', builder USING ERRCODE = 'invalid_function_definition',
            DETAIL = 'A builder must read under its caller''s snapshot, and write nothing.',
            HINT = format('ALTER FUNCTION %s STABLE;', builder);
    END IF;
    SELECT * INTO b FROM prompt_cache._builder_problem(builder);
    IF b.problem IS NOT NULL THEN
        RAISE EXCEPTION '%', b.problem USING ERRCODE = 'invalid_function_definition',
            DETAIL = 'A builder must run no code of others: a function or operator that fits a call in it better would run instead.',
            HINT = coalesce(b.hint, 'Create the function in a schema that is not temporary.');
    END IF;
    RETURN builder::text;
END
$$;
COMMENT ON FUNCTION prompt_cache._check_builder(regprocedure) IS 'Raises an error with a hint if a function cannot be a builder; returns its signature.';

CREATE FUNCTION prompt_cache._check_limits(ttl interval, max_entries integer, redis_ttl interval) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF extract(epoch FROM ttl) < 0 OR extract(epoch FROM redis_ttl) < 0 THEN
        RAISE EXCEPTION 'a time to live must not be negative' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'It is an interval; ''0'' means no limit.';
    END IF;
    IF extract(epoch FROM ttl) > 3153600000 OR extract(epoch FROM redis_ttl) > 3153600000 THEN
        RAISE EXCEPTION 'a time to live must not exceed a hundred years' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'It is an interval; ''0'' means no limit.';
    END IF;
    IF max_entries < 0 THEN
        RAISE EXCEPTION 'max_entries must not be negative' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'It is the number of entries kept in memory; 0 means no limit but memory_size.';
    END IF;
END
$$;
COMMENT ON FUNCTION prompt_cache._check_limits(interval, integer, interval) IS 'Raises an error with a hint if a limit makes no sense.';

-- Raises an error if there is no such namespace. Prompts are one too, though not made by create_namespace().
CREATE FUNCTION prompt_cache._require_namespace(namespace text) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF namespace IS NULL THEN
        RAISE EXCEPTION 'the namespace must not be NULL' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'The view prompt_cache.namespaces lists those there are.';
    END IF;
    IF NOT EXISTS (SELECT FROM prompt_cache.namespace n WHERE n.namespace = _require_namespace.namespace) THEN
        RAISE EXCEPTION 'there is no namespace "%"', namespace USING ERRCODE = 'undefined_object',
            HINT = 'Make it with prompt_cache.create_namespace(); the view prompt_cache.namespaces lists those there are.';
    END IF;
END
$$;
COMMENT ON FUNCTION prompt_cache._require_namespace(text) IS 'Raises an error with a hint if there is no such namespace.';

-- These do the work of the functions without the underscore, which have locked `watch` before, as attach() locks
-- `attachment`, and have checked who calls.
CREATE FUNCTION prompt_cache._namespace_owner(namespace text, OUT builder oid, OUT maker oid)
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_regprocedure(n.builder)::oid, r.oid
      FROM prompt_cache.namespace n LEFT JOIN pg_roles r ON r.rolname = n.maker
     WHERE n.namespace = _namespace_owner.namespace
$$;
COMMENT ON FUNCTION prompt_cache._namespace_owner(text) IS 'Who may change a namespace: who owns its builder, and the role that made it. NULL: it is gone.';

CREATE FUNCTION prompt_cache._create_namespace(
    name text, builder regprocedure, ttl interval, max_entries integer, sliding boolean, redis boolean, redis_ttl interval, maker name)
RETURNS boolean LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF name IS NULL OR ttl IS NULL OR max_entries IS NULL OR sliding IS NULL OR redis IS NULL THEN
        RAISE EXCEPTION 'name, ttl, max_entries, sliding and redis must not be NULL' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'Leave out what should have its default; 0 means no limit.';
    END IF;
    IF name = '' OR octet_length(name) > 63 OR name = 'prompt' OR name LIKE 'prompt\_cache:%' THEN
        RAISE EXCEPTION '"%" cannot be the name of a namespace', name USING ERRCODE = 'invalid_name',
            DETAIL = 'A name has 1 to 63 bytes, is not "prompt" and does not begin with "prompt_cache:".',
            HINT = 'Choose another name.';
    END IF;
    PERFORM prompt_cache._check_limits(ttl, max_entries, redis_ttl);
    IF EXISTS (SELECT FROM prompt_cache.namespace n WHERE n.namespace = name) THEN
        RAISE EXCEPTION 'namespace "%" exists already', name USING ERRCODE = 'duplicate_object',
            HINT = 'Change it with prompt_cache.alter_namespace(), or drop it first.';
    END IF;
    INSERT INTO prompt_cache.namespace (namespace, builder, ttl, max_entries, sliding, redis, redis_ttl, maker)
    VALUES (name, prompt_cache._check_builder(builder), ttl, max_entries, sliding, redis, redis_ttl, maker);
    -- What an earlier one of this name may have left.
    PERFORM prompt_cache._release_namespace(name);
    RETURN true;
END
$$;
COMMENT ON FUNCTION prompt_cache._create_namespace(text, regprocedure, interval, integer, boolean, boolean, interval, name) IS 'The work of create_namespace().';

CREATE FUNCTION prompt_cache.create_namespace(
    name text, builder regprocedure DEFAULT NULL, ttl interval DEFAULT '5 min', max_entries integer DEFAULT 0,
    sliding boolean DEFAULT false, redis boolean DEFAULT true, redis_ttl interval DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_create_namespace';
COMMENT ON FUNCTION prompt_cache.create_namespace(text, regprocedure, interval, integer, boolean, boolean, interval) IS
    'Makes a namespace. builder: f(key text) RETURNS text, STABLE, run as its owner; without one, values come from put(). ttl: ceiling on an entry''s age, 0 = none; max_entries: 0 = no limit of its own; sliding: a hit puts the end off. The caller must own the builder.';

CREATE FUNCTION prompt_cache._alter_namespace(
    name text, builder regprocedure, ttl interval, max_entries integer, sliding boolean, redis boolean, redis_ttl interval, maker name)
RETURNS boolean LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM prompt_cache._require_namespace(name);
    PERFORM prompt_cache._check_limits(ttl, max_entries, redis_ttl);
    UPDATE prompt_cache.namespace n
       SET wiring = DEFAULT,
           builder = coalesce(prompt_cache._check_builder(builder), n.builder),
           ttl = coalesce(_alter_namespace.ttl, n.ttl), max_entries = coalesce(_alter_namespace.max_entries, n.max_entries),
           sliding = coalesce(_alter_namespace.sliding, n.sliding), redis = coalesce(_alter_namespace.redis, n.redis),
           redis_ttl = coalesce(_alter_namespace.redis_ttl, n.redis_ttl),
           maker = CASE WHEN builder IS NULL THEN n.maker ELSE _alter_namespace.maker END
     WHERE n.namespace = name;
    PERFORM prompt_cache._free_namespace(name);
    RETURN true;
END
$$;
COMMENT ON FUNCTION prompt_cache._alter_namespace(text, regprocedure, interval, integer, boolean, boolean, interval, name) IS 'The work of alter_namespace().';

CREATE FUNCTION prompt_cache.alter_namespace(
    name text, builder regprocedure DEFAULT NULL, ttl interval DEFAULT NULL, max_entries integer DEFAULT NULL,
    sliding boolean DEFAULT NULL, redis boolean DEFAULT NULL, redis_ttl interval DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_alter_namespace';
COMMENT ON FUNCTION prompt_cache.alter_namespace(text, regprocedure, interval, integer, boolean, boolean, interval) IS
    'Changes a namespace; NULL leaves a property as it is. Its entries are built anew. The caller must own the builder that it has, and the one that is named.';

CREATE FUNCTION prompt_cache._drop_namespace(name text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    w prompt_cache.watch;
BEGIN
    PERFORM prompt_cache._require_namespace(name);
    FOR w IN SELECT * FROM prompt_cache.watch x WHERE x.namespace = name LOOP
        PERFORM prompt_cache._drop_watch(w);
    END LOOP;
    DELETE FROM prompt_cache.reader r WHERE r.namespace = name;
    DELETE FROM prompt_cache.namespace n WHERE n.namespace = name;
    PERFORM prompt_cache._release_namespace(name);
    RETURN true;
END
$$;
COMMENT ON FUNCTION prompt_cache._drop_namespace(text) IS 'The work of drop_namespace().';

CREATE FUNCTION prompt_cache.drop_namespace(name text) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_drop_namespace';
COMMENT ON FUNCTION prompt_cache.drop_namespace(text) IS 'Drops a namespace with its entries, its watches'' triggers and what allow() gave for it. The caller must own its builder, where it has one.';

CREATE FUNCTION prompt_cache._free_namespace(name text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_free_namespace';
COMMENT ON FUNCTION prompt_cache._free_namespace(text) IS 'Frees the memory of a namespace''s entries.';

CREATE FUNCTION prompt_cache._release_namespace(name text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_release_namespace';
COMMENT ON FUNCTION prompt_cache._release_namespace(text) IS 'Frees the memory of a namespace, with its counters and all that was learned of its use.';

-- Watches -------------------------------------------------------------------------------------------------------------

CREATE FUNCTION prompt_cache._watch_arguments(w prompt_cache.watch) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY['watch', w.namespace, coalesce(w.key, '')] || w.columns
$$;
COMMENT ON FUNCTION prompt_cache._watch_arguments(prompt_cache.watch) IS 'The arguments of a watch''s triggers.';

CREATE FUNCTION prompt_cache._watch_trigger(w prompt_cache.watch) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    -- Quoted, so that no two lists of arguments are joined to one text.
    SELECT 'prompt_cache_watch_' || left(md5(string_agg(quote_literal(a.argument), ',' ORDER BY a.n)), 12)
      FROM unnest(prompt_cache._watch_arguments(w)) WITH ORDINALITY AS a(argument, n)
$$;
COMMENT ON FUNCTION prompt_cache._watch_trigger(prompt_cache.watch) IS 'What the names of a watch''s triggers begin with.';

CREATE FUNCTION prompt_cache._drop_watch(w prompt_cache.watch) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM prompt_cache._drop_triggers(w.source, prompt_cache._watch_trigger(w));
    DELETE FROM prompt_cache.registered_column r WHERE r.source = w.source AND r.trigger = prompt_cache._watch_trigger(w);
    DELETE FROM prompt_cache.watch x
     WHERE (x.namespace, x.source) = (w.namespace, w.source)
       AND x.key IS NOT DISTINCT FROM w.key AND x.columns IS NOT DISTINCT FROM w.columns;
END
$$;
COMMENT ON FUNCTION prompt_cache._drop_watch(prompt_cache.watch) IS 'Takes a watch and its triggers away.';

-- The work of watch(), whose caller owns the table; `key` and `key_columns` come from the server's own parser.
CREATE FUNCTION prompt_cache._watch(source regclass, namespace text, key text, columns text[], key_columns text[])
RETURNS boolean LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    missing text;
    w       prompt_cache.watch;
BEGIN
    PERFORM prompt_cache._require_namespace(namespace);
    IF source IS NULL THEN
        RAISE EXCEPTION 'the table to watch must not be NULL' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'SELECT prompt_cache.watch(''schema.table'', ''namespace'');';
    END IF;
    PERFORM prompt_cache._check_table(source);
    SELECT c.name INTO missing FROM unnest(columns) AS c(name)
     WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = source AND a.attname = c.name
                          AND a.attnum > 0 AND NOT a.attisdropped)
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of table % does not exist', missing, source USING ERRCODE = 'undefined_column',
            HINT = 'columns names the columns whose change matters; NULL means all.';
    END IF;
    IF columns = '{}' THEN
        columns := NULL;
    END IF;
    INSERT INTO prompt_cache.watch (namespace, source, key, columns, key_columns)
    VALUES (namespace, source, key, columns, key_columns)
    ON CONFLICT DO NOTHING RETURNING * INTO w;
    IF FOUND THEN
        PERFORM prompt_cache._put_triggers(source, prompt_cache._watch_trigger(w), prompt_cache._watch_arguments(w));
        PERFORM prompt_cache._register_columns(source, prompt_cache._watch_trigger(w), key_columns || columns);
    ELSE
        SELECT x.* INTO w FROM prompt_cache.watch x
         WHERE (x.namespace, x.source) = (_watch.namespace, _watch.source)
           AND x.key IS NOT DISTINCT FROM _watch.key AND x.columns IS NOT DISTINCT FROM _watch.columns;
        IF NOT prompt_cache._register_columns(source, prompt_cache._watch_trigger(w), key_columns || columns) THEN
            RETURN false;
        END IF;
    END IF;
    UPDATE prompt_cache.namespace n SET wiring = DEFAULT WHERE n.namespace = _watch.namespace;
    IF NOT FOUND THEN  -- dropped meanwhile
        PERFORM prompt_cache._require_namespace(namespace);
    END IF;
    PERFORM prompt_cache._free_namespace(namespace);
    RETURN true;
END
$$;
COMMENT ON FUNCTION prompt_cache._watch(regclass, text, text, text[], text[]) IS 'The work of watch().';

CREATE FUNCTION prompt_cache.watch(source regclass, namespace text, key text DEFAULT NULL, columns text[] DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_watch';
COMMENT ON FUNCTION prompt_cache.watch(regclass, text, text, text[]) IS
    'A change of `columns` (NULL: of any) in a row of `source` invalidates the entry whose key is the row''s expression `key`, before and after the change, or the whole namespace where `key` is NULL. false: it was watched so already. The caller must own the table.';

CREATE FUNCTION prompt_cache._unwatch(source regclass, namespace text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    w     prompt_cache.watch;
    found boolean := false;
BEGIN
    PERFORM prompt_cache._require_namespace(namespace);
    FOR w IN SELECT * FROM prompt_cache.watch x WHERE x.namespace = _unwatch.namespace AND x.source = _unwatch.source LOOP
        PERFORM prompt_cache._drop_watch(w);
        found := true;
    END LOOP;
    IF found THEN
        UPDATE prompt_cache.namespace n SET wiring = DEFAULT WHERE n.namespace = _unwatch.namespace;
        PERFORM prompt_cache._free_namespace(namespace);
    END IF;
    RETURN found;
END
$$;
COMMENT ON FUNCTION prompt_cache._unwatch(regclass, text) IS 'The work of unwatch().';

CREATE FUNCTION prompt_cache.unwatch(source regclass, namespace text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_unwatch';
COMMENT ON FUNCTION prompt_cache.unwatch(regclass, text) IS 'Takes back all that watch() did with this table for this namespace; false if there was nothing. The caller must own the table.';

-- Reading and writing values ------------------------------------------------------------------------------------------

CREATE FUNCTION prompt_cache.fetch(namespace text, key text) RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_fetch';
COMMENT ON FUNCTION prompt_cache.fetch(text, text) IS 'The value of a key, exactly as rebuild() under the caller''s snapshot would return it; built if it is not in memory.';

CREATE FUNCTION prompt_cache.fetch_many(namespace text, keys text[], OUT key text, OUT value text, OUT source text)
    RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 100 AS 'MODULE_PATHNAME', 'pc_fetch_many';
COMMENT ON FUNCTION prompt_cache.fetch_many(text, text[]) IS 'fetch() of many keys in one pass, in the order asked, duplicates kept; source: memory, redis or built.';

CREATE FUNCTION prompt_cache.rebuild(namespace text, key text) RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_rebuild';
COMMENT ON FUNCTION prompt_cache.rebuild(text, text) IS 'Builds the value under the caller''s snapshot and touches no cache, nor does what the builder fetches: the oracle that fetch() is held to.';

CREATE FUNCTION prompt_cache.get(namespace text, key text, OUT value text, OUT found boolean)
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_get';
COMMENT ON FUNCTION prompt_cache.get(text, text) IS 'The value of a key if it is cached and current; never builds. found tells a NULL from nothing.';

CREATE FUNCTION prompt_cache.put(
    namespace text, key text, value text, ttl interval DEFAULT NULL, tags text[] DEFAULT '{}', lease bigint DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_put';
COMMENT ON FUNCTION prompt_cache.put(text, text, text, interval, text[], bigint) IS
    'Stores a value at commit, if it is still true then. ttl: NULL = the namespace''s, 0 = none; tags: forget_tag() of any of them invalidates it; lease: what lease() returned before the value was read, NULL: true as of this statement. Where the namespace has a builder, only what the builder gives is stored, no longer than the namespace''s ttl. Returns whether it would be stored now.';

CREATE FUNCTION prompt_cache.lease(namespace text, key text) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_lease';
COMMENT ON FUNCTION prompt_cache.lease(text, text) IS 'The right to build the value of a key outside of the database, for 30 seconds, to be handed to put(); NULL: somebody else is building it, or the server is a standby. Below 2^53. Read what the value is made of by statements that begin after it has returned. A server has 256: when all are taken, the oldest of the role that holds the most gives way to a role that holds fewer.';

CREATE FUNCTION prompt_cache.forget(namespace text, key text) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_forget';
COMMENT ON FUNCTION prompt_cache.forget(text, text) IS 'Declares a value changed: at once for the caller, at commit for everybody, not at all on rollback.';

CREATE FUNCTION prompt_cache.forget_tag(tag text) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_forget_tag';
COMMENT ON FUNCTION prompt_cache.forget_tag(text) IS 'As forget(), for every value that depends on a tag by depends_on() or put().';

CREATE FUNCTION prompt_cache.forget_namespace(namespace text) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_forget_namespace';
COMMENT ON FUNCTION prompt_cache.forget_namespace(text) IS 'As forget(), for every value of a namespace.';

CREATE FUNCTION prompt_cache.forget_prefix(namespace text, prefix text) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_forget_prefix';
COMMENT ON FUNCTION prompt_cache.forget_prefix(text, text) IS 'As forget(), for the values whose keys begin with these bytes; returns how many of them are in memory.';

CREATE FUNCTION prompt_cache.depends_on(tag text) RETURNS boolean
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_depends_on';
COMMENT ON FUNCTION prompt_cache.depends_on(text) IS 'Inside a builder: the value also dies with forget_tag() of this tag. false outside of a build.';

CREATE FUNCTION prompt_cache._gaps(OUT namespace text, OUT wiring integer, OUT relation oid, OUT function text, OUT reads text, OUT cached boolean)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_gaps';
COMMENT ON FUNCTION prompt_cache._gaps() IS 'What builders have read and nothing watches: relations, and what functions read besides their arguments.';

CREATE VIEW prompt_cache.namespaces AS
    SELECT n.namespace, n.builder, n.ttl, n.max_entries, n.sliding, n.redis, n.redis_ttl,
           ARRAY(SELECT format('%s%s%s', x.source, ' by ' || x.key, ' (' || array_to_string(x.columns, ', ') || ')')
                   FROM prompt_cache.watch x WHERE x.namespace = n.namespace ORDER BY 1) AS watches,
           ARRAY(SELECT g.relation::regclass::text FROM prompt_cache._gaps() g
                  WHERE g.namespace = n.namespace AND g.wiring = n.wiring AND g.relation IS NOT NULL ORDER BY 1) AS unwatched,
           ARRAY(SELECT g.function FROM prompt_cache._gaps() g
                  WHERE g.namespace = n.namespace AND g.wiring = n.wiring AND g.function IS NOT NULL ORDER BY 1) AS unwatched_functions,
           w.problem IS NULL AND w.sound AS sound, coalesce(w.problem, w.moved) AS problem
      FROM prompt_cache.namespace n CROSS JOIN LATERAL prompt_cache._namespace(n.namespace) w;
COMMENT ON VIEW prompt_cache.namespaces IS 'The namespaces there are. unwatched: tables that the builder was seen to read and nothing watches, so that entries are only as fresh as their ttl. unwatched_functions: functions that it was seen to call and that read the clock, the catalogs, the session of the caller or the like; entries are only as fresh as their ttl, or not kept where they are the caller''s. sound: every trigger stands, the builder is there, and no other column has taken a name that watch() was given; otherwise nothing is stored, and problem says why.';

----------------------------------------------------------------------------------------------------------------------
-- Rights

CREATE FUNCTION prompt_cache._reader_functions(prompts boolean) RETURNS SETOF regprocedure
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.oid::regprocedure FROM pg_proc p
     WHERE p.pronamespace = 'prompt_cache'::regnamespace
       AND p.proname = ANY (CASE WHEN prompts THEN ARRAY['get_or_build', 'prompt', 'get_or_build_key', 'prompt_key',
                                                         'get_with_tags', 'invalidation_channel']
                                 ELSE ARRAY['fetch', 'fetch_many', 'get'] END)
$$;
COMMENT ON FUNCTION prompt_cache._reader_functions(boolean) IS 'What a backend''s role needs to read prompts, or values of namespaces.';

CREATE FUNCTION prompt_cache._check_namespace(namespace text) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF namespace IS NOT NULL AND namespace <> 'prompt' THEN
        PERFORM prompt_cache._require_namespace(namespace);
    END IF;
END
$$;
COMMENT ON FUNCTION prompt_cache._check_namespace(text) IS 'Raises an error if there is no such namespace; NULL stands for all.';

-- Is EXECUTE on a function granted to the role itself?
CREATE FUNCTION prompt_cache._is_granted(function regprocedure, role oid) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a WHERE p.oid = function AND a.grantee = role)
$$;
COMMENT ON FUNCTION prompt_cache._is_granted(regprocedure, oid) IS 'Is EXECUTE on a function granted to the role itself?';

CREATE FUNCTION prompt_cache._is_granted_schema(role oid) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
                    WHERE n.nspname = 'prompt_cache' AND a.grantee = role)
$$;
COMMENT ON FUNCTION prompt_cache._is_granted_schema(oid) IS 'Is a right on the schema prompt_cache granted to the role itself?';

-- The oid of a role that was dropped may become another role's. A row of reader counts while its role has the EXECUTE that came
-- with it, which goes before the role can be dropped, and is deleted before that EXECUTE is granted again.
CREATE FUNCTION prompt_cache._counts_as_reader(role oid) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT prompt_cache._is_granted('prompt_cache.fetch(text,text)', role)
$$;
COMMENT ON FUNCTION prompt_cache._counts_as_reader(oid) IS 'Do the rows that a role has in reader count?';

CREATE FUNCTION prompt_cache._purge_readers() RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM prompt_cache.reader r WHERE NOT prompt_cache._counts_as_reader(r.role)
$$;
COMMENT ON FUNCTION prompt_cache._purge_readers() IS 'Deletes the rows of reader that do not count, since their role was dropped.';

CREATE FUNCTION prompt_cache._role_exists(role regrole) RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'the role must not be NULL' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'SELECT prompt_cache.allow(''role'', ''namespace'');';
    END IF;
    RETURN EXISTS (SELECT FROM pg_roles r WHERE r.oid = role);
END
$$;
COMMENT ON FUNCTION prompt_cache._role_exists(regrole) IS 'Is there such a role? Raises an error for NULL.';

CREATE FUNCTION prompt_cache.allow(role regrole, namespace text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    functions regprocedure[] := ARRAY(
        SELECT prompt_cache._reader_functions(true) WHERE namespace IS NULL OR namespace = 'prompt'
        UNION ALL SELECT prompt_cache._reader_functions(false) WHERE namespace IS DISTINCT FROM 'prompt');
    f regprocedure;
BEGIN
    PERFORM prompt_cache._check_namespace(namespace);
    IF NOT prompt_cache._role_exists(role) THEN
        RAISE EXCEPTION 'role with OID % does not exist', role::oid USING ERRCODE = 'undefined_object',
            HINT = 'SELECT rolname FROM pg_roles;';
    END IF;
    PERFORM prompt_cache._purge_readers();
    -- A grant is DDL: where it is there already, it need not empty what builders have made.
    IF NOT prompt_cache._is_granted_schema(role) THEN
        EXECUTE format('GRANT USAGE ON SCHEMA prompt_cache TO %s', role);
    END IF;
    FOREACH f IN ARRAY functions LOOP
        IF NOT prompt_cache._is_granted(f, role) THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', f, role);
        END IF;
    END LOOP;
    -- GRANT takes a name, which may have become another role's.
    IF NOT prompt_cache._is_granted_schema(role) OR EXISTS (SELECT FROM unnest(functions) AS x(f) WHERE NOT prompt_cache._is_granted(x.f, role)) THEN
        RAISE EXCEPTION 'role % was renamed meanwhile', role USING ERRCODE = 'object_in_use',
            HINT = format('SELECT prompt_cache.allow(%L, %L);', role, namespace);
    END IF;
    IF namespace IS DISTINCT FROM 'prompt' THEN
        INSERT INTO prompt_cache.reader (role, namespace) VALUES (role, namespace) ON CONFLICT DO NOTHING;
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION prompt_cache.allow(regrole, text) IS 'Gives a backend''s role what a reader needs, for one namespace ("prompt": prompts) or, with NULL, for all: USAGE on the schema and EXECUTE on the reading functions.';

CREATE FUNCTION prompt_cache.deny(role regrole, namespace text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    functions   regprocedure[];
    f           regprocedure;
    keeps_usage boolean := false;
BEGIN
    PERFORM prompt_cache._check_namespace(namespace);
    PERFORM prompt_cache._purge_readers();
    IF NOT prompt_cache._role_exists(role) THEN
        RETURN true;
    END IF;
    IF namespace IS DISTINCT FROM 'prompt' THEN
        IF namespace IS NOT NULL AND EXISTS (SELECT FROM prompt_cache.reader r WHERE r.role = deny.role AND r.namespace IS NULL) THEN
            RAISE EXCEPTION 'role % may read all namespaces', role USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = format('SELECT prompt_cache.deny(%L); and then allow() those it may read.', role);
        END IF;
        DELETE FROM prompt_cache.reader r WHERE r.role = deny.role AND (deny.namespace IS NULL OR r.namespace = deny.namespace);
    END IF;
    functions := ARRAY(
        SELECT prompt_cache._reader_functions(true) WHERE namespace IS NULL OR namespace = 'prompt'
        UNION ALL SELECT prompt_cache._reader_functions(false)
         WHERE NOT EXISTS (SELECT FROM prompt_cache.reader r WHERE r.role = deny.role));
    FOREACH f IN ARRAY functions LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM %s', f, role);
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_proc p
                     CROSS JOIN LATERAL aclexplode(p.proacl) a
                    WHERE p.pronamespace = 'prompt_cache'::regnamespace AND a.grantee = role::oid) THEN
        EXECUTE format('REVOKE USAGE ON SCHEMA prompt_cache FROM %s', role);
        keeps_usage := prompt_cache._is_granted_schema(role);
    END IF;
    -- REVOKE takes a name, which may have become another role's; and it leaves what another role has granted.
    IF keeps_usage OR EXISTS (SELECT FROM unnest(functions) AS x(f) WHERE prompt_cache._is_granted(x.f, role)) THEN
        RAISE EXCEPTION 'role % was renamed meanwhile, or has rights that another role has granted', role USING ERRCODE = 'object_in_use',
            HINT = format('SELECT prompt_cache.deny(%L, %L);', role, namespace);
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION prompt_cache.deny(regrole, text) IS 'Takes back what allow() gave.';

----------------------------------------------------------------------------------------------------------------------
-- Inspection

CREATE FUNCTION prompt_cache._stats(
    OUT namespace text, OUT entries bigint, OUT bytes bigint, OUT hits_memory bigint,
    OUT hits_redis bigint, OUT hits_database bigint, OUT built_calls bigint, OUT not_found bigint, OUT builds bigint, OUT build_micros bigint,
    OUT evictions bigint, OUT expirations bigint, OUT invalidations bigint, OUT bypasses bigint, OUT errors bigint,
    OUT stats_reset timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_stats';
COMMENT ON FUNCTION prompt_cache._stats() IS 'The counters behind the view stats; of a namespace once it has been used.';

CREATE FUNCTION prompt_cache._namespace_names() RETURNS SETOF text
    LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT namespace FROM prompt_cache.namespace
$$;
COMMENT ON FUNCTION prompt_cache._namespace_names() IS 'The namespaces there are, for the views.';

CREATE VIEW prompt_cache.stats AS
    SELECT n.namespace, coalesce(s.entries, 0) AS entries, coalesce(s.bytes, 0) AS bytes,
           coalesce(s.hits_memory + m.misses + s.bypasses, 0) AS lookups,
           coalesce(s.hits_memory, 0) AS hits_memory, coalesce(s.hits_redis, 0) AS hits_redis,
           coalesce(s.hits_database, 0) AS hits_database, coalesce(s.builds, 0) AS builds, coalesce(m.misses, 0) AS misses,
           s.hits_memory::float8 / nullif(s.hits_memory + m.misses, 0) AS hit_rate,
           s.build_micros / 1000.0::float8 / nullif(s.builds, 0) AS build_ms_avg,
           coalesce(s.evictions, 0) AS evictions, coalesce(s.expirations, 0) AS expirations,
           coalesce(s.invalidations, 0) AS invalidations, coalesce(s.bypasses, 0) AS bypasses, coalesce(s.errors, 0) AS errors,
           s.stats_reset
      FROM (SELECT s.namespace FROM prompt_cache._stats() s WHERE s.namespace = 'prompt'
            UNION ALL SELECT prompt_cache._namespace_names()) n
      LEFT JOIN prompt_cache._stats() s ON s.namespace = n.namespace
      LEFT JOIN LATERAL (SELECT s.hits_redis + s.hits_database + s.built_calls + s.not_found AS misses) m ON true;
COMMENT ON VIEW prompt_cache.stats IS 'A row per namespace: entries and bytes in memory, lookups and where they were answered. lookups = hits_memory + misses + bypasses. invalidations are counted for the whole server, with prompts.';

CREATE FUNCTION prompt_cache._entries(
    OUT namespace text, OUT key text, OUT bytes bigint, OUT created_at timestamptz, OUT expires_at timestamptz,
    OUT frequency integer, OUT valid boolean, OUT layer text)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_entries';
COMMENT ON FUNCTION prompt_cache._entries() IS 'The rows behind the view entries.';

CREATE VIEW prompt_cache.entries AS SELECT * FROM prompt_cache._entries();
COMMENT ON VIEW prompt_cache.entries IS 'What this database has in memory, without values. A prompt is up to three entries: layer user (key = the user''s), tenant (key = the tenant''s) and application. valid: a lookup now would use it; of a namespace''s value, as far as its key and everything it depends on tell.';

CREATE VIEW prompt_cache.attachments AS
    SELECT a.users, a.user_key, a.user_tenant, a.user_prompt, a.tenants, a.tenant_key, a.tenant_prompt,
           w.problem IS NULL AND w.sound AS sound, coalesce(w.problem, w.moved) AS problem
      FROM prompt_cache.attachment a CROSS JOIN prompt_cache._attachment() w;
COMMENT ON VIEW prompt_cache.attachments IS 'How the chat schema is wired. sound: every trigger stands and every column is there; otherwise nothing is cached. problem says so too where another column has taken a name that attach() was given.';

CREATE FUNCTION prompt_cache.verify(sample integer DEFAULT 1000, OUT namespace text, OUT key text, OUT tier text)
RETURNS SETOF record LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_verify';
COMMENT ON FUNCTION prompt_cache.verify(integer) IS 'Rebuilds about `sample` entries of every tier under one snapshot and returns those that differ: always none. Values of a namespace without a builder cannot be rebuilt and are left out.';

CREATE FUNCTION prompt_cache._explain(key text) RETURNS SETOF text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_explain';
COMMENT ON FUNCTION prompt_cache._explain(text) IS 'The lines behind explain().';

CREATE FUNCTION prompt_cache._explain_value(namespace text, key text) RETURNS SETOF text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_explain_value';
COMMENT ON FUNCTION prompt_cache._explain_value(text, text) IS 'The lines behind explain(), of a namespace''s value.';

CREATE FUNCTION prompt_cache.explain(namespace text, key text) RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM prompt_cache._check_namespace(namespace);
    IF namespace = 'prompt' THEN
        RETURN QUERY SELECT prompt_cache._explain(key);
    ELSE
        RETURN QUERY SELECT prompt_cache._explain_value(namespace, key);
    END IF;
END
$$;
COMMENT ON FUNCTION prompt_cache.explain(text, text) IS 'What a lookup of this key would do now and why, a line of text each; stores nothing and shows no values.';

CREATE FUNCTION prompt_cache._stats_reset(namespace text) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pc_stats_reset';
COMMENT ON FUNCTION prompt_cache._stats_reset(text) IS 'Sets the counters of a namespace, or with NULL of all, to zero.';

CREATE FUNCTION prompt_cache.stats_reset(namespace text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM prompt_cache._check_namespace(namespace);
    RETURN prompt_cache._stats_reset(namespace);
END
$$;
COMMENT ON FUNCTION prompt_cache.stats_reset(text) IS 'Sets the counters of a namespace, or of all, to zero; false where the library is not preloaded.';

CREATE FUNCTION prompt_cache._memory_status() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_memory_status';
COMMENT ON FUNCTION prompt_cache._memory_status() IS 'The memory tier''s accounts; NULL if the library is not preloaded.';

CREATE FUNCTION prompt_cache._worker_status() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_worker_status';
COMMENT ON FUNCTION prompt_cache._worker_status() IS 'The workers as this database sees them; NULL if the library is not preloaded.';

CREATE FUNCTION prompt_cache._partitions() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_partitions';
COMMENT ON FUNCTION prompt_cache._partitions() IS 'How many namespaces of this database the memory tier has room for.';

CREATE FUNCTION prompt_cache._redis_counts(OUT name text, OUT count bigint)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_redis_counts';
COMMENT ON FUNCTION prompt_cache._redis_counts() IS 'What has happened with Redis since the server started.';

CREATE FUNCTION prompt_cache._redis_status(
    OUT state text, OUT problem text, OUT breaker text, OUT failures_in_row integer, OUT latency_us integer,
    OUT last_error text, OUT encrypted boolean, OUT worker boolean)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pc_redis_status';
COMMENT ON FUNCTION prompt_cache._redis_status() IS 'The state of the Redis tier; no row if the library is not preloaded.';

CREATE FUNCTION prompt_cache._redis_health() RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    redis record;
BEGIN
    SELECT * INTO redis FROM prompt_cache._redis_status();
    IF redis.state IS NULL OR (redis.state = 'off' AND redis.problem IS NULL) THEN
        RETURN '{"state": "off"}';
    END IF;
    RETURN (
        SELECT jsonb_build_object(
                   'state', redis.state, 'problem', redis.problem, 'breaker', redis.breaker, 'failures_in_row', redis.failures_in_row,
                   'latency_us', redis.latency_us, 'last_error', redis.last_error, 'encrypted', redis.encrypted, 'worker', redis.worker,
                   'channel', prompt_cache.invalidation_channel(),
                   'found', (c.counts ->> 'found')::bigint, 'missing', (c.counts ->> 'missing')::bigint,
                   'stored', (c.counts ->> 'stored')::bigint, 'connections', (c.counts ->> 'connections')::bigint,
                   'failures', (SELECT jsonb_object_agg(k, c.counts -> k)
                                  FROM unnest(ARRAY['no_connection', 'timeout', 'closed', 'protocol', 'error']) k),
                   'refused', (SELECT jsonb_object_agg(k, c.counts -> k)
                                 FROM unnest(ARRAY['form', 'version', 'other_key', 'broken', 'other_entry', 'expired', 'encoding', 'stale']) k))
          FROM (SELECT jsonb_object_agg(name, count) AS counts FROM prompt_cache._redis_counts()) c);
END
$$;
COMMENT ON FUNCTION prompt_cache._redis_health() IS 'The Redis tier as health() shows it.';

CREATE FUNCTION prompt_cache.health() RETURNS jsonb
    LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH memory AS MATERIALIZED (
        SELECT prompt_cache._memory_status() AS status
    ), redis AS MATERIALIZED (
        SELECT prompt_cache._redis_health() AS status
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
          FROM (SELECT role, relation, kind FROM prompt_cache._unsound_sources()) u
    ), unwatched AS MATERIALIZED (
        SELECT n.namespace, g.relation::regclass::text AS relation, g.function, g.reads, g.cached
          FROM prompt_cache._gaps() g JOIN prompt_cache.namespace n ON n.namespace = g.namespace AND n.wiring = g.wiring
    ), unsound AS MATERIALIZED (
        SELECT u.namespace, jsonb_build_object(
                   'table', u.relation::regclass::text, 'trigger', u.trigger,
                   'repair', CASE WHEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = u.relation AND t.tgname = u.trigger)
                                  THEN format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', u.relation::regclass, u.trigger)
                                  ELSE format('SELECT prompt_cache.unwatch(%1$L, %2$L); SELECT prompt_cache.watch(%1$L, %2$L, ...)',
                                              u.relation::regclass, u.namespace) END) AS repair
          FROM prompt_cache._unsound_watches() u
    ), reason AS (
        SELECT 'critical' AS severity, 'triggers are missing or not ENABLE ALWAYS: nothing is cached' AS text
          FROM broken WHERE triggers <> '[]'
        UNION ALL
        SELECT 'critical', problem FROM wiring WHERE problem IS NOT NULL
        UNION ALL
        SELECT 'degraded', moved FROM wiring WHERE moved IS NOT NULL
        UNION ALL
        SELECT DISTINCT 'critical', format('namespace "%s": triggers of its watches are missing or not ENABLE ALWAYS: nothing of it is cached', namespace)
          FROM unsound
        UNION ALL
        SELECT 'critical', format('namespace "%s": %s', n.namespace, coalesce(w.problem, 'nothing of it is cached: ' || w.moved))
          FROM prompt_cache.namespace n CROSS JOIN LATERAL prompt_cache._namespace(n.namespace) w WHERE w.problem IS NOT NULL OR w.moved IS NOT NULL
        UNION ALL
        SELECT 'degraded', format('namespace "%s": its builder reads %s, which is not watched, or not all that it reads: entries are only as fresh as their ttl', namespace, relation)
          FROM unwatched WHERE relation IS NOT NULL
        UNION ALL
        SELECT 'degraded', format('namespace "%s": its builder calls %s, which %s: %s', namespace, function, reads,
                                  CASE WHEN cached THEN 'entries are only as fresh as their ttl' ELSE 'what it returns is not cached' END)
          FROM unwatched WHERE function IS NOT NULL
        UNION ALL
        SELECT 'degraded', format('%s namespaces are not cached: raise memory_size', p.left_out)
          FROM (SELECT count(*) - (SELECT prompt_cache._partitions()) AS left_out FROM prompt_cache.namespace) p WHERE p.left_out > 0
        UNION ALL
        SELECT 'degraded', 'nothing is attached: call prompt_cache.attach()' FROM wiring
         WHERE sources IS NULL AND NOT EXISTS (SELECT FROM prompt_cache.namespace)
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
        UNION ALL
        SELECT 'degraded', format('function %s in a prompt''s expression is STABLE: changes of tables that it may read are not noticed', f.name)
          FROM prompt_cache.attachment a
         CROSS JOIN LATERAL (VALUES (a.users, a.user_prompt), (a.tenants, a.tenant_prompt)) AS p(source, prompt)
         CROSS JOIN LATERAL (SELECT prompt_cache._stable_function(p.source, p.prompt)) AS f(name)
         WHERE f.name IS NOT NULL
        UNION ALL
        SELECT 'degraded', 'Redis is not used: ' || (status ->> 'problem') FROM redis WHERE status ->> 'problem' IS NOT NULL
        UNION ALL
        SELECT 'degraded', 'Redis is left alone after failures: ' || (status ->> 'last_error') FROM redis WHERE status ->> 'state' = 'down'
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
                   'redis', (SELECT status FROM redis),
                   'database', jsonb_build_object('state',
                       CASE WHEN (SELECT status IS NOT NULL FROM memory) AND (SELECT durable FROM wiring)
                             AND current_setting('prompt_cache.database', true)::boolean THEN 'on' ELSE 'off' END)),
               'triggers', (SELECT triggers FROM broken) || (SELECT coalesce(jsonb_agg(repair), '[]') FROM unsound),
               'worker', (SELECT coalesce(status, '{"state": "off"}') FROM worker))
      FROM (SELECT) one LEFT JOIN reason ON true
$$;
COMMENT ON FUNCTION prompt_cache.health() IS 'The state of the cache as jsonb: status ok, degraded or critical, with reasons, the tiers, and statements that repair triggers.';

----------------------------------------------------------------------------------------------------------------------
-- Rights: nothing for anybody but the owner, whatever ALTER DEFAULT PRIVILEGES gives; then what is meant.

DO $$
DECLARE
    schema_oid pg_catalog.oid := 'prompt_cache'::pg_catalog.regnamespace;
    role       pg_catalog.text;
BEGIN
    FOR role IN
        SELECT 'PUBLIC'
        UNION
        SELECT pg_catalog.quote_ident(r.rolname)
          FROM (SELECT c.relacl AS acl FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) schema_oid
                UNION ALL SELECT p.proacl FROM pg_catalog.pg_proc p WHERE p.pronamespace OPERATOR(pg_catalog.=) schema_oid) o
         CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
          JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee
         WHERE a.grantee OPERATOR(pg_catalog.<>) a.grantor
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL TABLES IN SCHEMA prompt_cache FROM %s CASCADE', role);
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA prompt_cache FROM %s CASCADE', role);
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA prompt_cache FROM %s CASCADE', role);
    END LOOP;
    -- By oid: a role may have been renamed meanwhile.
    IF EXISTS (SELECT FROM (SELECT c.relacl AS acl, c.relowner AS owner FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) schema_oid
                            UNION ALL SELECT p.proacl, p.proowner FROM pg_catalog.pg_proc p WHERE p.pronamespace OPERATOR(pg_catalog.=) schema_oid) o
                CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner) THEN
        RAISE EXCEPTION 'default privileges could not be taken back' USING ERRCODE = 'object_in_use',
            HINT = 'CREATE EXTENSION prompt_cache;';
    END IF;
END
$$;

-- Who creates a partition of a source clones its trigger and must be allowed to. Nobody can call it otherwise.
GRANT EXECUTE ON FUNCTION prompt_cache._source_changed() TO PUBLIC;

-- Monitoring roles may look, not read.
GRANT USAGE ON SCHEMA prompt_cache TO pg_monitor;
GRANT SELECT ON prompt_cache.stats, prompt_cache.entries, prompt_cache.attachments, prompt_cache.namespaces TO pg_monitor;
GRANT EXECUTE ON FUNCTION prompt_cache.health(), prompt_cache.explain(text, text), prompt_cache._stats(), prompt_cache._entries(), prompt_cache._attachment(),
      prompt_cache._namespace_names(), prompt_cache._namespace(text), prompt_cache._gaps()
   TO pg_monitor;

-- What pg_dump reads, run by the owner of the database.
GRANT USAGE ON SCHEMA prompt_cache TO pg_database_owner;
GRANT SELECT ON prompt_cache.attachment, prompt_cache.application, prompt_cache.namespace, prompt_cache.watch, prompt_cache.reader TO pg_database_owner;
