-- The indexes of the product's tables, with what decides whether one serves the policy.
SELECT i.indexrelid::bigint AS oid, i.indrelid::bigint AS relation, c.relname::text AS name,
       m.amname::text AS method, i.indisunique AS "unique", i.indisprimary AS "primary",
       i.indisvalid AND i.indisready AND i.indislive AS valid, i.indimmediate AS immediate,
       i.indisreplident AS identity, pg_get_expr(i.indpred, i.indrelid) AS predicate,
       (i.indkey::int2[])[0:i.indnkeyatts - 1]::int[] AS keys,
       h.inhparent::bigint AS parent, k.conname::text AS "constraint"
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_am AS m ON m.oid = c.relam
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits AS h ON h.inhrelid = i.indexrelid
LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry')
    AND n.nspname !~ '^pg_(toast|temp)'
ORDER BY i.indrelid, c.relname
