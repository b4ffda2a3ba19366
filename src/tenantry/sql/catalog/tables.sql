-- What it takes to place the product's tables (those of relations.sql), at one flight. No expression is printed: that
-- would wait for whoever has locked the table. A column of a domain is shown by the type beneath, as in columns.sql.
WITH RECURSIVE beneath AS (
    SELECT t.oid, t.oid AS base, -1 AS typmod, t.typtype, t.typbasetype, t.typtypmod FROM pg_type AS t
    WHERE t.typtype = 'd'
    UNION ALL
    SELECT b.oid, t.oid, b.typtypmod, t.typtype, t.typbasetype, t.typtypmod
    FROM beneath AS b JOIN pg_type AS t ON t.oid = b.typbasetype
)
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       ARRAY(SELECT i.inhparent::bigint FROM pg_inherits AS i WHERE i.inhrelid = c.oid ORDER BY i.inhseqno) AS parents,
       (SELECT coalesce(json_agg(json_build_array(
                   a.attnum, a.attname,
                   format_type(coalesce(b.base, a.atttypid), CASE WHEN b.base IS NULL THEN a.atttypmod ELSE b.typmod END),
                   coalesce(l.collisdeterministic, true)) ORDER BY a.attnum), '[]')
        FROM pg_attribute AS a LEFT JOIN beneath AS b ON b.oid = a.atttypid AND b.typtype <> 'd'
             LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns,
       (SELECT coalesce(json_agg(json_build_array(
                   k.oid::bigint, k.conname, k.conkey, k.confrelid::bigint, k.confkey, k.conparentid <> 0) ORDER BY k.conname), '[]')
        FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'f')::text AS keys
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f')
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry')
    AND n.nspname !~ '^pg_(toast|temp)'
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'
    )
ORDER BY n.nspname, c.relname
