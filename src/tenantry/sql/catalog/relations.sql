-- Every table, view and sequence of the product (not the system's, an extension's, a session's or ours).
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name,
       c.relkind::text AS kind, pg_get_userbyid(c.relowner)::text AS owner,
       c.relrowsecurity AS rls, c.relforcerowsecurity AS forced, c.relreplident::text AS identity,
       c.relpersistence::text AS persistence, c.relispartition AS partition,
       greatest(c.reltuples, 0)::float8 AS rows,
       coalesce(c.reloptions, '{}')::text[] AS options,
       coalesce(p.parents, '{}') AS parents,
       o.refobjid::bigint AS owned_by
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT array_agg(i.inhparent::bigint ORDER BY i.inhseqno) AS parents
    FROM pg_inherits AS i WHERE i.inhrelid = c.oid
) AS p ON true
LEFT JOIN pg_depend AS o
    ON c.relkind = 'S' AND o.classid = 'pg_class'::regclass AND o.objid = c.oid
    AND o.refclassid = 'pg_class'::regclass AND o.deptype IN ('a', 'i')
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry')
    AND n.nspname !~ '^pg_(toast|temp)'
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'
    )
ORDER BY n.nspname, c.relname
