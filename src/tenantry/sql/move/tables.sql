-- Every ordinary, partitioned and foreign table of the application, with what a move must know of it.
SELECT
    c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
    c.relpersistence::text AS persistence, c.relreplident::text AS identity,
    greatest(c.reltuples, 0)::float8 AS rows, pg_total_relation_size(c.oid) AS bytes,
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
                'oid_type', t.typname IN ('oid', 'lo')) ORDER BY a.attnum), '[]')
     FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid LEFT JOIN pg_type AS e ON e.oid = t.typelem
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns,
    -- Unique keys that a replica identity could use: whole, immediate, over columns that are never NULL.
    (SELECT coalesce(json_agg(json_build_object(
                'index', ic.relname, 'primary', x.indisprimary, 'identity', x.indisreplident,
                'columns', ARRAY(SELECT a.attname FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
                                 JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
                                 WHERE k.place <= x.indnkeyatts ORDER BY k.place))
                ORDER BY x.indisprimary DESC, ic.relname), '[]')
     FROM pg_index AS x JOIN pg_class AS ic ON ic.oid = x.indexrelid
     WHERE x.indrelid = c.oid AND x.indisunique AND x.indimmediate AND x.indisvalid
       AND x.indpred IS NULL AND x.indexprs IS NULL
       AND NOT EXISTS (SELECT FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
                       JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
                       WHERE k.place <= x.indnkeyatts AND NOT a.attnotnull))::text AS keys,
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
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'tenantry')
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.deptype = 'e')
ORDER BY 2, 3
