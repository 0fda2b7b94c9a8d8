-- The golden list: what each kind of role may do with each object of the extension, as the catalogs have it. A new object shows up
-- here, so that somebody decides who may use it. README.md says what each right means.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS prompt_cache CASCADE;
DROP SCHEMA IF EXISTS prompt_cache;
CREATE EXTENSION prompt_cache;
CREATE ROLE regress_pc_nobody;
CREATE ROLE regress_pc_backend;
CREATE ROLE regress_pc_filler;
CREATE ROLE regress_pc_table_owner;
CREATE ROLE regress_pc_builder_owner;

-- As README's table of rights has it.
SELECT prompt_cache.allow('regress_pc_backend'), prompt_cache.allow('regress_pc_filler');
GRANT EXECUTE ON FUNCTION prompt_cache.lease, prompt_cache.put, prompt_cache.forget TO regress_pc_filler;
GRANT USAGE ON SCHEMA prompt_cache TO regress_pc_table_owner, regress_pc_builder_owner;
GRANT EXECUTE ON FUNCTION prompt_cache.attach, prompt_cache.detach, prompt_cache.watch, prompt_cache.unwatch TO regress_pc_table_owner;
GRANT EXECUTE ON FUNCTION prompt_cache.create_namespace, prompt_cache.alter_namespace, prompt_cache.drop_namespace TO regress_pc_builder_owner;

CREATE TEMP TABLE who (place int, who text, role oid);
INSERT INTO who VALUES (1, 'everybody', 'regress_pc_nobody'::regrole), (2, 'backend', 'regress_pc_backend'::regrole), (3, 'filler', 'regress_pc_filler'::regrole),
    (4, 'table owner', 'regress_pc_table_owner'::regrole), (5, 'builder owner', 'regress_pc_builder_owner'::regrole),
    (6, 'monitor', 'pg_monitor'::regrole), (7, 'database owner', 'pg_database_owner'::regrole);
-- What everybody may is said once.
CREATE TEMP TABLE allowed AS
WITH mine AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
     WHERE d.deptype = 'e' AND e.extname = 'prompt_cache'
), may AS (
    SELECT 1 AS kind, 'schema ' || n.nspname AS object, p.privilege, w.* FROM who w, pg_namespace n, unnest('{CREATE,USAGE}'::text[]) AS p(privilege)
     WHERE n.nspname = 'prompt_cache' AND has_schema_privilege(w.role, n.oid, p.privilege)
    UNION ALL
    SELECT CASE c.relkind WHEN 'r' THEN 2 WHEN 'v' THEN 3 ELSE 4 END, CASE c.relkind WHEN 'r' THEN 'table ' WHEN 'v' THEN 'view ' ELSE 'sequence ' END || c.relname, p.privilege, w.*
      FROM mine m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid, who w,
           unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS p(privilege)
     WHERE c.relkind <> 'S' AND (has_table_privilege(w.role, c.oid, p.privilege)
           OR (p.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege(w.role, c.oid, p.privilege)))
    UNION ALL
    SELECT 4, 'sequence ' || c.relname, p.privilege, w.*
      FROM mine m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid, who w, unnest('{USAGE,SELECT,UPDATE}'::text[]) AS p(privilege)
     WHERE c.relkind = 'S' AND has_sequence_privilege(w.role, c.oid, p.privilege)
    UNION ALL
    SELECT 5, 'type of the rows of ' || t.typname, 'USAGE', w.*
      FROM mine m JOIN pg_type t ON m.classid = 'pg_class'::regclass AND t.typrelid = m.objid OR m.classid = 'pg_type'::regclass AND t.oid = m.objid, who w
     WHERE has_type_privilege(w.role, t.oid, 'USAGE')
    UNION ALL
    SELECT 6, p.proname || CASE WHEN p.prosecdef THEN ' (as the extension''s owner)' ELSE '' END, 'EXECUTE', w.*
      FROM mine m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid, who w
     WHERE has_function_privilege(w.role, p.oid, 'EXECUTE')
)
SELECT kind, object, string_agg(DISTINCT privilege, ', ') AS rights, who, place
  FROM (SELECT *, min(place) OVER (PARTITION BY kind, object, privilege) AS first FROM may) m
 WHERE place = 1 OR first > 1
 GROUP BY kind, object, who, place;

\pset format unaligned
\pset tuples_only
\echo objects that somebody may use: rights: who
SELECT object || ': ' || string_agg(rights || ': ' || who, '; ' ORDER BY rights COLLATE "C", who COLLATE "C")
  FROM (SELECT kind, object, rights, string_agg(who, ', ' ORDER BY place) AS who FROM allowed GROUP BY kind, object, rights) a
 GROUP BY kind, object ORDER BY kind, object COLLATE "C";
\echo functions that only the owner of the extension may call, and whom he trusts with them
SELECT p.proname || CASE WHEN p.prosecdef THEN ' (as the extension''s owner)' ELSE '' END
  FROM pg_proc p WHERE p.pronamespace = 'prompt_cache'::regnamespace
   AND NOT EXISTS (SELECT FROM who w WHERE has_function_privilege(w.role, p.oid, 'EXECUTE')) ORDER BY p.proname COLLATE "C";
\echo tables, views and sequences that only the owner of the extension may use
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'prompt_cache'::regnamespace AND c.relkind IN ('r', 'v', 'S')
   AND NOT EXISTS (SELECT FROM allowed a WHERE a.kind < 5 AND split_part(a.object, ' ', 2) = c.relname) ORDER BY c.relname COLLATE "C";
\echo rights of others than these: none
SELECT p.proname, a.grantee FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a
 WHERE p.pronamespace = 'prompt_cache'::regnamespace AND a.grantee NOT IN (SELECT role FROM who UNION SELECT p.proowner UNION SELECT 0);
SELECT c.relname, a.grantee FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
 WHERE c.relnamespace = 'prompt_cache'::regnamespace AND a.grantee NOT IN (SELECT role FROM who UNION SELECT c.relowner);
\pset format aligned
\pset tuples_only
DROP OWNED BY regress_pc_backend, regress_pc_filler, regress_pc_table_owner, regress_pc_builder_owner;
DROP ROLE regress_pc_nobody, regress_pc_backend, regress_pc_filler, regress_pc_table_owner, regress_pc_builder_owner;
