-- Every sequence of the application, with the columns that it feeds: those that own it, and those whose default uses it
-- (tables without their partitions). The largest value that it may give out is what the smallest of them holds.
SELECT n.nspname::text AS schema, c.relname::text AS name, least(s.seqmax, fed.max) AS max, s.seqincrement AS increment,
       coalesce(fed.feeds, '[]')::text AS feeds, coalesce(pg_sequence_last_value(c.oid), 0)::bigint AS last
FROM pg_sequence AS s JOIN pg_class AS c ON c.oid = s.seqrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT json_agg(DISTINCT jsonb_build_array(a.attrelid::bigint, a.attname)) AS feeds,
           min(CASE coalesce(nullif(t.typbasetype, 0), t.oid) WHEN 'int2'::regtype THEN 32767
                    WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END) AS max
    FROM (SELECT refobjid AS rel, refobjsubid AS num FROM pg_depend
          WHERE classid = 'pg_class'::regclass AND objid = c.oid AND refclassid = 'pg_class'::regclass
            AND deptype IN ('a', 'i')
          UNION
          SELECT v.adrelid, v.adnum FROM pg_depend AS d JOIN pg_attrdef AS v ON v.oid = d.objid
          WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid) AS f
    JOIN pg_attribute AS a ON a.attrelid = f.rel AND a.attnum = f.num
    JOIN pg_type AS t ON t.oid = a.atttypid
    JOIN pg_class AS r ON r.oid = f.rel AND NOT r.relispartition) AS fed ON true
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry') AND c.relpersistence <> 't'
ORDER BY 1, 2
