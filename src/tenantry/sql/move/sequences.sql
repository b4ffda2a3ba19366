-- Every sequence of the application, with the column that it feeds (NULL for a sequence of its own).
SELECT n.nspname::text AS schema, c.relname::text AS name, s.seqmax AS max, s.seqincrement AS increment,
       s.seqcycle AS cycles, owner.table_oid::bigint AS table_oid, owner.column_name,
       coalesce(pg_sequence_last_value(c.oid), 0)::bigint AS last
FROM pg_sequence AS s JOIN pg_class AS c ON c.oid = s.seqrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT a.attrelid AS table_oid, a.attname::text AS column_name
    FROM pg_depend AS d JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
      AND d.deptype IN ('a', 'i') LIMIT 1) AS owner ON true
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry') AND c.relpersistence <> 't'
ORDER BY 1, 2
