-- How a table ($1: its name, schema-qualified and quoted) is read for a comparison: the pages of its largest
-- partition, the bytes and rows of all of it, and its columns, each with whether its binary form says the same in
-- every database: no object ids in it, and none of a type that is not PostgreSQL's own (those below 10000 are fixed).
WITH RECURSIVE part (oid) AS (
    SELECT to_regclass($1)::oid
    UNION ALL
    SELECT i.inhrelid FROM pg_inherits AS i JOIN part ON i.inhparent = part.oid
)
SELECT
    coalesce(max(pg_relation_size(c.oid)), 0) / current_setting('block_size')::bigint AS pages,
    coalesce(sum(pg_table_size(c.oid)), 0)::bigint AS bytes,
    coalesce(sum(c.reltuples) FILTER (WHERE c.relkind = 'r' AND c.reltuples > 0), 0)::bigint AS rows,
    ARRAY(SELECT a.attname::text
          FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid LEFT JOIN pg_type AS e ON e.oid = t.typelem
          WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
            AND t.oid < 10000 AND t.typtype IN ('b', 'r', 'm') AND t.typname !~ '^_?reg' AND t.typsend <> 0
            AND (e.oid IS NULL OR e.typtype IN ('b', 'r', 'm') AND e.typsend <> 0)) AS exact
FROM part JOIN pg_class AS c ON c.oid = part.oid
