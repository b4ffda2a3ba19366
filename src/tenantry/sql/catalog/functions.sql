-- The product's functions and ours (not the system's, not an extension's).
SELECT f.oid::bigint AS oid, n.nspname::text AS schema, f.proname::text AS name,
       pg_get_function_identity_arguments(f.oid) AS arguments, f.prokind::text AS kind,
       pg_get_userbyid(f.proowner)::text AS owner, f.prosecdef AS definer,
       f.provolatile::text AS volatility, l.lanname::text AS language,
       coalesce(f.proconfig, '{}')::text[] AS config, f.proretset AS returns_set,
       t.typrelid::bigint AS returns, f.pronargs::int AS inputs,
       format_type(f.prorettype, NULL) AS result,
       CASE WHEN f.prosqlbody IS NULL THEN f.prosrc ELSE pg_get_function_sqlbody(f.oid) END AS source
FROM pg_proc AS f
JOIN pg_namespace AS n ON n.oid = f.pronamespace
JOIN pg_language AS l ON l.oid = f.prolang
JOIN pg_type AS t ON t.oid = f.prorettype
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE e.classid = 'pg_proc'::regclass AND e.objid = f.oid AND e.deptype = 'e'
    )
ORDER BY n.nspname, f.proname
