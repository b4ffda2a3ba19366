-- The columns of those relations; a column of a domain is shown by the type beneath, which is what compares.
WITH RECURSIVE beneath AS (
    SELECT t.oid, t.oid AS base, -1 AS typmod, t.typtype, t.typbasetype, t.typtypmod FROM pg_type AS t
    WHERE t.typtype = 'd'
    UNION ALL
    SELECT b.oid, t.oid, b.typtypmod, t.typtype, t.typbasetype, t.typtypmod
    FROM beneath AS b JOIN pg_type AS t ON t.oid = b.typbasetype
)
SELECT a.attrelid::bigint AS relation, a.attnum::int AS number, a.attname::text AS name,
       format_type(coalesce(b.base, a.atttypid), CASE WHEN b.base IS NULL THEN a.atttypmod ELSE b.typmod END)
           AS type,
       a.attnotnull AS not_null, a.attgenerated::text AS generated, a.attidentity::text AS identity,
       pg_get_expr(d.adbin, d.adrelid) AS "default",
       coalesce(l.collisdeterministic, true) AS deterministic, a.atttypid::bigint AS declared
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN beneath AS b ON b.oid = a.atttypid AND b.typtype <> 'd'
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry')
    AND n.nspname !~ '^pg_(toast|temp)'
ORDER BY a.attrelid, a.attnum
