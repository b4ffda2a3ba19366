-- Which of some tables ($1: names, quoted and with their schemas), and of their partitions and children, a fence would not
-- hold for everybody whom row-level security holds: those without the guard, and without the check in every policy that
-- lets anybody in. Left out are tables without row-level security that nobody but the owner may write. The expressions are
-- compared as PostgreSQL prints them: what stands at the end of an AND, or is the whole of it. The mark of a bind, which
-- the tenant policy reads on Citus, is a check too: where nothing has bound, there are no rows. There, no policy restricts.
WITH RECURSIVE t AS (
    SELECT c.oid FROM unnest($1::text[]) AS name JOIN pg_class AS c ON c.oid = to_regclass(name)
    UNION
    SELECT i.inhrelid FROM pg_inherits AS i JOIN t ON t.oid = i.inhparent
), policy AS (
    SELECT p.polrelid, (p.polpermissive OR c.us) AND (p.polqual IS NOT NULL OR p.polwithcheck IS NOT NULL) AS opens,
           NOT (p.polpermissive OR c.us) AND p.polcmd = '*' AND p.polroles = '{0}' AND p.polqual IS NOT NULL AS restricts,
           coalesce(pg_get_expr(p.polqual, p.polrelid) ~ s.checked, true)
               AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid) ~ s.checked, true) AS checks
    FROM pg_policy AS p JOIN t ON t.oid = p.polrelid
    CROSS JOIN (SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') AS us) AS c
    CROSS JOIN (SELECT '(^|AND )\( SELECT tenantry\.admitted\(\) AS admitted\)\)?$'
                       '|(^|AND )\(NULLIF\(current_setting\(''tenantry\.bound''::text, true\), ''''::text\) = '
                       'current_setting\(''[a-z0-9_.]+''::text, true\)\)\)?$'
                       '|(^|AND )COALESCE\(\([^=]* = \( SELECT [^=]*tenantry\.admitted_tenant\(\)[^=]* AS admitted_tenant\)\), '
                       '(false|\(\([^=]* IS NULL\) AND \( SELECT tenantry\.admitted\(\) AS admitted\)\))\)\)?$' AS checked) AS s
)
SELECT format('%I.%I', n.nspname, c.relname) AS table
FROM t JOIN pg_class AS c ON c.oid = t.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT (c.relrowsecurity AND (
        EXISTS (SELECT FROM policy AS p WHERE p.polrelid = c.oid AND p.restricts AND p.checks)
        OR NOT EXISTS (SELECT FROM policy AS p WHERE p.polrelid = c.oid AND p.opens AND NOT p.checks)))
  AND (c.relrowsecurity OR EXISTS (
        SELECT FROM (SELECT c.relacl AS acl UNION ALL SELECT a.attacl FROM pg_attribute AS a WHERE a.attrelid = c.oid) AS g
        CROSS JOIN LATERAL aclexplode(g.acl) AS x
        WHERE x.grantee <> c.relowner AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE')))
ORDER BY 1
