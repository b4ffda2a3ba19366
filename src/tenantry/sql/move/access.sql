-- What guards some tables ($1: names as in shape.sql), and what some roles ($2) may do with them and some sequences
-- ($3: names likewise): a line for each fact. Only what PostgreSQL would ask is told, not by which grant a role has it.
WITH t AS (
    SELECT c.oid, name, c.relnamespace, c.relrowsecurity, c.relforcerowsecurity, c.relacl, c.relowner
    FROM unnest($1::text[]) AS name JOIN pg_class AS c ON c.oid = to_regclass(name)
), s AS (
    SELECT c.oid, name, c.relnamespace FROM unnest($3::text[]) AS name JOIN pg_class AS c ON c.oid = to_regclass(name)
), r AS (SELECT oid, rolname::text AS role FROM pg_roles WHERE rolname = ANY ($2::text[]))
SELECT 'guard' AS kind, name AS on, 'ENABLE' AS what, '' AS who, NULL AS detail FROM t WHERE relrowsecurity
UNION ALL
SELECT 'guard', name, 'FORCE', '', NULL FROM t WHERE relforcerowsecurity
UNION ALL
SELECT 'policy', t.name, p.polname::text, '', json_build_object(
           'permissive', p.polpermissive, 'command', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'
               WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
           'roles', ARRAY(SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END
                          FROM unnest(p.polroles) AS role ORDER BY 1),
           'using', pg_get_expr(p.polqual, p.polrelid),
           -- A check that is not there is the other expression.
           'check', CASE WHEN p.polcmd IN ('*', 'w') THEN coalesce(pg_get_expr(p.polwithcheck, p.polrelid),
                                                                  pg_get_expr(p.polqual, p.polrelid))
                         ELSE pg_get_expr(p.polwithcheck, p.polrelid) END)::text
FROM t JOIN pg_policy AS p ON p.polrelid = t.oid
UNION ALL
-- Ours are told by the kits.
SELECT 'trigger', t.name, g.tgname::text, g.tgenabled::text, pg_get_triggerdef(g.oid)
FROM t JOIN pg_trigger AS g ON g.tgrelid = t.oid JOIN pg_proc AS f ON f.oid = g.tgfoid
WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND f.pronamespace::regnamespace::text <> 'tenantry'
UNION ALL
SELECT 'may', t.name, privilege, r.role, NULL
FROM t, r, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
WHERE has_table_privilege(r.oid, t.oid, privilege)
UNION ALL
SELECT 'may', t.name, format('%s (%I)', privilege, a.attname), r.role, NULL
FROM t JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped,
     r, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS privilege
WHERE has_column_privilege(r.oid, t.oid, a.attnum, privilege)
UNION ALL
SELECT 'may', 'SEQUENCE ' || s.name, 'USAGE', r.role, NULL FROM s, r WHERE has_sequence_privilege(r.oid, s.oid, 'USAGE')
UNION ALL
SELECT 'may', format('SCHEMA %I', n.nspname), 'USAGE', r.role, NULL
FROM pg_namespace AS n, r
WHERE n.oid IN (SELECT relnamespace FROM t UNION SELECT relnamespace FROM s) AND has_schema_privilege(r.oid, n.oid, 'USAGE')
UNION ALL
SELECT 'sequence', s.name, '', '', NULL FROM s
UNION ALL
SELECT 'granted', t.name, acl.privilege_type, pg_get_userbyid(acl.grantee)::text, NULL
FROM t, aclexplode(t.relacl) AS acl WHERE acl.grantee NOT IN (0, t.relowner)
