-- Every ordinary, partitioned and foreign table of the application, with what a move must know of it.
SELECT
    c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
    c.relpersistence::text AS persistence, c.relreplident::text AS identity,
    greatest(c.reltuples, parts.rows, 0)::float8 AS rows,
    pg_total_relation_size(c.oid) + parts.bytes AS bytes, parts.odd::text AS odd,
    ARRAY(SELECT DISTINCT g.tgname::text FROM pg_trigger AS g WHERE NOT g.tgisinternal AND g.tgenabled IN ('A', 'R')
            AND (g.tgrelid = c.oid OR g.tgrelid IN (SELECT relid FROM pg_partition_tree(c.oid)))) AS always,
    EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.oid AND NOT c.relispartition) AS inherits,
    pg_get_userbyid(c.relowner)::text AS owner, pg_has_role(c.relowner, 'USAGE') AS ours,
    ARRAY(SELECT DISTINCT pg_get_userbyid(acl.grantee)::text FROM aclexplode(c.relacl) AS acl
          WHERE acl.grantee <> 0) AS grantees,
    (SELECT coalesce(json_agg(json_build_object(
                'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                'not_null', a.attnotnull, 'generated', a.attgenerated <> '', 'identity', a.attidentity,
                -- As in digest.sql.
                'portable', t.oid < 10000 AND t.typtype IN ('b', 'r', 'm') AND t.typname !~ '^_?reg'
                    AND t.typsend <> 0 AND (e.oid IS NULL OR e.typtype IN ('b', 'r', 'm') AND e.typsend <> 0),
                'oid_type', t.typname IN ('oid', 'lo'),
                'comparable', t.typtype NOT IN ('b', 'd') OR t.typcategory = 'A' OR EXISTS (
                    SELECT FROM pg_opclass AS o JOIN pg_am AS m ON m.oid = o.opcmethod AND m.amname IN ('btree', 'hash')
                    WHERE o.opcdefault AND o.opcintype IN (
                        SELECT coalesce(nullif(t.typbasetype, 0), t.oid) UNION
                        SELECT k.casttarget FROM pg_cast AS k WHERE k.castmethod = 'b'
                          AND k.castsource = coalesce(nullif(t.typbasetype, 0), t.oid)))) ORDER BY a.attnum), '[]')
     FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid LEFT JOIN pg_type AS e ON e.oid = t.typelem
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns,
    -- Unique keys. "Fit" as a replica identity are those that are whole, immediate, over columns that are never NULL.
    (SELECT coalesce(json_agg(json_build_object(
                'index', ic.relname, 'primary', x.indisprimary, 'identity', x.indisreplident,
                'fit', x.indimmediate AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
                    AND NOT EXISTS (SELECT FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
                                    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
                                    WHERE k.place <= x.indnkeyatts AND NOT a.attnotnull),
                'columns', ARRAY(SELECT a.attname FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
                                 JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
                                 WHERE k.place <= x.indnkeyatts ORDER BY k.place))
                ORDER BY x.indisprimary DESC, ic.relname), '[]')
     FROM pg_index AS x JOIN pg_class AS ic ON ic.oid = x.indexrelid
     WHERE x.indrelid = c.oid AND x.indisunique)::text AS keys,
    (SELECT coalesce(json_agg(json_build_object(
                'name', f.conname, 'to', f.confrelid::bigint,
                'columns', ARRAY(SELECT a.attname FROM unnest(f.conkey) WITH ORDINALITY AS k(attnum, place)
                                 JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.attnum
                                 ORDER BY k.place),
                'far', ARRAY(SELECT a.attname FROM unnest(f.confkey) WITH ORDINALITY AS k(attnum, place)
                             JOIN pg_attribute AS a ON a.attrelid = f.confrelid AND a.attnum = k.attnum
                             ORDER BY k.place))), '[]')
     FROM pg_constraint AS f WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.conparentid = 0)::text AS references
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT coalesce(sum(greatest(p.reltuples, 0)), 0) AS rows,
           coalesce(sum(pg_total_relation_size(p.oid)), 0)::bigint AS bytes,
           coalesce(json_agg(json_build_array(format('%I.%I', pn.nspname, p.relname),
                                              CASE WHEN p.relkind = 'f' THEN 'f' ELSE 'u' END) ORDER BY p.relname)
                    FILTER (WHERE p.relkind = 'f' OR p.relpersistence = 'u'), '[]') AS odd
    FROM pg_partition_tree(c.oid) AS t JOIN pg_class AS p ON p.oid = t.relid
    JOIN pg_namespace AS pn ON pn.oid = p.relnamespace WHERE p.oid <> c.oid) AS parts
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'tenantry')
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.deptype = 'e')
ORDER BY 2, 3
