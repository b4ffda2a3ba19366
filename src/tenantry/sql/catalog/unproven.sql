-- In a hardened database: the tables that this role may use and whose rows no policy compares with the router's proof, in
-- the form of tables.sql without keys, with their ancestors, by which an override may place them; "table" is its quoted
-- name where it is one of these. Guarded is a table by its guard, or by the check in every policy that lets anybody in,
-- as earlier versions made it. Expressions are compared as PostgreSQL prints them, which hangs on the search path.
WITH RECURSIVE policy AS (      -- whether it restricts, or lets in; and whether it compares the rows with the proof
    SELECT p.polrelid, p.polpermissive AND (p.polqual IS NOT NULL OR p.polwithcheck IS NOT NULL) AS opens,
           NOT p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}' AND p.polqual IS NOT NULL AS restricts,
           coalesce(pg_get_expr(p.polqual, p.polrelid) ~ s.proven, true)
               AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid) ~ s.proven, true) AS proves
    FROM pg_policy AS p
    CROSS JOIN (SELECT '^(\(.* AND )?COALESCE\(\([^=]* = \( SELECT [^=]*' || o.schema || 'admitted_tenant\(\)[^=]* AS admitted_tenant\)\), '
                       '(false|\(\([^=]* IS NULL\) AND \( SELECT ' || o.schema || 'admitted\(\) AS admitted\)\))\)\)?$' AS proven
                FROM (SELECT CASE WHEN to_regproc('admitted_tenant') = to_regproc('tenantry.admitted_tenant')
                                       AND to_regproc('admitted') = to_regproc('tenantry.admitted')
                                  THEN '' ELSE 'tenantry\.' END AS schema) AS o) AS s
), unproven AS (
    SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry')
      AND n.nspname !~ '^pg_(toast|temp)'
      AND (has_table_privilege(session_user, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
           OR has_any_column_privilege(session_user, c.oid, 'SELECT, INSERT, UPDATE'))
      AND NOT EXISTS (SELECT FROM pg_depend AS e
                      WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
      AND NOT (c.relrowsecurity AND (
          EXISTS (SELECT FROM policy AS p WHERE p.polrelid = c.oid AND p.restricts AND p.proves)
          OR NOT EXISTS (SELECT FROM policy AS p WHERE p.polrelid = c.oid AND p.opens AND NOT p.proves)))
), lineage AS (
    SELECT oid FROM unproven
    UNION
    SELECT i.inhparent FROM pg_inherits AS i JOIN lineage AS l ON i.inhrelid = l.oid
)
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       ARRAY(SELECT i.inhparent::bigint FROM pg_inherits AS i WHERE i.inhrelid = c.oid ORDER BY i.inhseqno) AS parents,
       (SELECT coalesce(json_agg(json_build_array(a.attnum, a.attname, '', true) ORDER BY a.attnum), '[]')
        FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns,
       '[]' AS keys, CASE WHEN c.oid IN (SELECT oid FROM unproven) THEN c.oid::regclass::text END AS table
FROM lineage JOIN pg_class AS c ON c.oid = lineage.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
ORDER BY 2, 3
