-- The roles that may bind tenants here: the application's.
SELECT DISTINCT r.rolname::text AS role FROM pg_proc AS p, aclexplode(p.proacl) AS a
JOIN pg_roles AS r ON r.oid = a.grantee
WHERE p.pronamespace = 'tenantry'::regnamespace AND p.proname = 'bind' AND a.grantee <> p.proowner
  AND a.privilege_type = 'EXECUTE'
