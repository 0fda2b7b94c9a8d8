-- What is wrong with the objects of the extension; no rows is right.
-- Public means: the name does not begin with an underscore.
CREATE TEMP VIEW mine AS
SELECT d.classid, d.objid, d.classid::regclass::text || ' ' || pg_describe_object(d.classid, d.objid, 0) AS what
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE d.deptype = 'e' AND e.extname = 'prompt_cache';

SELECT p.oid::regprocedure || ' has no search_path of its own'
FROM mine m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname IN ('sql', 'plpgsql')
  AND NOT coalesce(p.proconfig, '{}') @> '{"search_path=pg_catalog, pg_temp"}';

SELECT p.oid::regprocedure || ' returns void'
FROM mine m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
WHERE p.prorettype = 'void'::regtype AND p.proname !~ '^_';

SELECT 'more than one function is called ' || p.proname
FROM mine m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
GROUP BY p.proname HAVING count(*) > 1;

SELECT p.oid::regprocedure || ' may be called by everybody'
FROM mine m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid,
     aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE a.grantee = 0 AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype);

SELECT c.oid::regclass || ' is open to everybody'
FROM mine m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid,
     aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
WHERE a.grantee = 0;

SELECT m.what || ' has no comment'
FROM mine m
WHERE (m.classid = 'pg_proc'::regclass AND (SELECT proname !~ '^_' FROM pg_proc WHERE oid = m.objid)
       OR m.classid = 'pg_class'::regclass AND (SELECT relname !~ '^_' AND relkind IN ('r', 'v') FROM pg_class WHERE oid = m.objid))
  AND obj_description(m.objid, m.classid::regclass::name) IS NULL;

SELECT m.what || ' is outside the schema prompt_cache'
FROM mine m
WHERE m.classid = 'pg_proc'::regclass AND (SELECT pronamespace FROM pg_proc WHERE oid = m.objid) <> 'prompt_cache'::regnamespace
   OR m.classid = 'pg_class'::regclass AND (SELECT relnamespace FROM pg_class WHERE oid = m.objid) <> 'prompt_cache'::regnamespace;

-- pg_upgrade refuses a cluster in which a column of a table has one of these types, alone or inside another type.
WITH RECURSIVE refused AS (
    SELECT t.oid FROM pg_type t
    WHERE t.typnamespace = 'pg_catalog'::regnamespace
      AND t.typname IN ('regcollation', 'regconfig', 'regdictionary', 'regnamespace', 'regoper', 'regoperator', 'regproc', 'regprocedure')
    UNION
    SELECT t.oid FROM refused r JOIN pg_type t ON t.typelem = r.oid OR t.typbasetype = r.oid
        OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.atttypid = r.oid AND NOT a.attisdropped)
        OR EXISTS (SELECT FROM pg_range g WHERE g.rngtypid = t.oid AND g.rngsubtype = r.oid)
)
SELECT a.attrelid::regclass || '.' || a.attname || ' has a type that pg_upgrade refuses'
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'prompt_cache'::regnamespace AND c.relkind IN ('r', 'm', 'p', 'i') AND NOT a.attisdropped
  AND a.atttypid IN (SELECT oid FROM refused);
