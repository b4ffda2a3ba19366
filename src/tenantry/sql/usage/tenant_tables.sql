-- Tables that hold rows, have the tenant column $1, and are not ours or the server's; partitions by themselves.
SELECT n.nspname AS schema, c.relname AS name, a.attname AS column
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = $1 AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry')
ORDER BY 1, 2
