-- What the product's own publications want of the replica identities of some tables ($1: names as in shape.sql), of
-- themselves and their partitions: PostgreSQL refuses every UPDATE and DELETE of a table that is published with a list of
-- columns that lacks one of its replica identity, or with a filter on a column outside it.
SELECT name AS table, format('%I.%I', n.nspname, c.relname) AS part, p.pubname::text AS publication,
       ARRAY(SELECT a.attname::text FROM unnest(r.prattrs::int2[]) WITH ORDINALITY AS k(num, place)
             JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.num ORDER BY k.place) AS listed,
       -- A filter names no table but its own, so every column in its tree is one of it.
       ARRAY(SELECT DISTINCT a.attname::text FROM regexp_matches(r.prqual::text, ':varattno (\d+)', 'g') AS v
             JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = v[1]::int ORDER BY 1) AS filtered,
       pg_get_expr(r.prqual, r.prrelid) AS filter
FROM unnest($1::text[]) AS name
CROSS JOIN LATERAL (SELECT to_regclass(name)::oid AS oid UNION SELECT relid FROM pg_partition_tree(to_regclass(name))) AS t
JOIN pg_class AS c ON c.oid = t.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_publication_rel AS r ON r.prrelid = c.oid JOIN pg_publication AS p ON p.oid = r.prpubid
-- What is said of a partitioned table counts for its partitions only if it publishes in their stead.
WHERE (p.pubupdate OR p.pubdelete) AND (p.pubviaroot OR c.relkind = 'r')
  AND (r.prattrs IS NOT NULL OR r.prqual IS NOT NULL) AND p.pubname !~ '^tenantry_m[0-9a-f]{10}_'
ORDER BY 3, 2
