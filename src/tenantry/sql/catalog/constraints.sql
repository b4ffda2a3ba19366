-- Foreign keys and check constraints of the product's tables. A partition's copy names its parent.
SELECT k.oid::bigint AS oid, k.conrelid::bigint AS relation, k.conname::text AS name,
       k.contype::text AS kind, k.convalidated AS validated, k.conparentid <> 0 AS inherited,
       coalesce(k.conkey, '{}')::int[] AS columns, k.confrelid::bigint AS target,
       coalesce(k.confkey, '{}')::int[] AS target_columns, pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint AS k
JOIN pg_namespace AS n ON n.oid = k.connamespace
WHERE k.contype IN ('f', 'c') AND k.conrelid <> 0
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry')
    AND n.nspname !~ '^pg_(toast|temp)'
ORDER BY k.conrelid, k.conname
