-- Every role, what it may bypass, and whose member it is. From 16 on a membership may withhold both INHERIT
-- and SET; such a membership gives nothing but administration, and the query says so by its two flags.
SELECT r.rolname::text AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypass,
       r.rolreplication AS replication,
       ARRAY(
           SELECT g.rolname::text FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid
           WHERE m.member = r.oid
               AND coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
           ORDER BY 1
       ) AS may_become,
       ARRAY(
           SELECT g.rolname::text FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid
           WHERE m.member = r.oid
               AND coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit)
           ORDER BY 1
       ) AS inherits
FROM pg_roles AS r
ORDER BY r.rolname
