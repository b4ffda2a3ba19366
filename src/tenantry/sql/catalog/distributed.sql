-- The tables that Citus manages, and the columns by which it distributes them; '' of those that are whole: reference
-- tables, on every node, and those that it keeps on the coordinator. Only where Citus's catalog is.
SELECT d.logicalrelid::oid::bigint AS oid,
       coalesce((SELECT a.attname::text FROM pg_attribute AS a
                 WHERE a.attrelid = d.logicalrelid AND a.attnum = substring(d.partkey FROM ':varattno ([0-9]+)')::int), '')
           AS column
FROM pg_catalog.pg_dist_partition AS d
