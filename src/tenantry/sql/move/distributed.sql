-- The tables among $1 that Citus manages: their rows are on other machines, whose writes the coordinator's log does
-- not have.
SELECT t.name FROM unnest($1::text[]) AS t (name)
WHERE EXISTS (SELECT FROM pg_catalog.pg_dist_partition AS d WHERE d.logicalrelid::oid = to_regclass(t.name)::oid)
ORDER BY 1
