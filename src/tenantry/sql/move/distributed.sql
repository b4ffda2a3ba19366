-- The tables among $1 that Citus manages: their rows are on other machines, whose writes the coordinator's log does
-- not have. Each with the column that distributes it; '' of those that are whole on every node.
SELECT t.name, coalesce((SELECT a.attname::text FROM pg_attribute AS a
                         WHERE a.attrelid = d.logicalrelid
                           AND a.attnum = substring(d.partkey FROM ':varattno ([0-9]+)')::int), '') AS column
FROM unnest($1::text[]) AS t (name)
JOIN pg_catalog.pg_dist_partition AS d ON d.logicalrelid::oid = to_regclass(t.name)::oid
ORDER BY 1
