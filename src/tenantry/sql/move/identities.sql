-- Which parts of a table ($1: its name, quoted), itself and its partitions, do not have an index ($2: the table's own, quoted;
-- a partition's is the one attached to it) as their replica identity. Without an index: which do not have all columns.
-- ALTER TABLE ... REPLICA IDENTITY does not reach partitions, and it is theirs that PostgreSQL looks at when it logs a row.
SELECT format('%I.%I', n.nspname, c.relname) AS part, i.relname::text AS index
FROM (SELECT to_regclass($1)::oid AS oid UNION SELECT relid FROM pg_partition_tree(to_regclass($1))) AS t
JOIN pg_class AS c ON c.oid = t.oid AND c.relkind IN ('r', 'p') JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN (pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid) ON x.indrelid = c.oid AND x.indexrelid IN (
    SELECT to_regclass($2)::oid UNION SELECT relid FROM pg_partition_tree(to_regclass($2)))
WHERE c.relreplident <> 'f'
  AND NOT coalesce(CASE c.relreplident WHEN 'i' THEN x.indisreplident WHEN 'd' THEN x.indisprimary END, false)
ORDER BY 1
