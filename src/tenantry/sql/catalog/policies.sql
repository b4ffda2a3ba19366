-- Every policy, its expressions as PostgreSQL prints them (with only pg_catalog in the search path).
SELECT p.polrelid::bigint AS relation, p.polname::text AS name, p.polcmd::text AS command,
       p.polpermissive AS permissive,
       ARRAY(
           SELECT CASE r WHEN 0 THEN 'public' ELSE pg_get_userbyid(r)::text END
           FROM unnest(p.polroles) AS r ORDER BY 1
       ) AS roles,
       pg_get_expr(p.polqual, p.polrelid) AS "using",
       pg_get_expr(p.polwithcheck, p.polrelid) AS "check"
FROM pg_policy AS p
ORDER BY p.polrelid, p.polname
