-- Of some tables ($1: names as in shape.sql) those whose statistics are no guide to their rows: never analyzed, or changed by
-- more than a fifth since. Partitions count for their tables.
SELECT name FROM (
    SELECT t.name, bool_or(c.reltuples < 0 AND pg_relation_size(c.oid) > 0) AS never,
           coalesce(sum(s.n_mod_since_analyze), 0) AS changed, sum(greatest(c.reltuples, 0)) AS rows
    FROM unnest($1::text[]) AS t(name)
    CROSS JOIN LATERAL (SELECT to_regclass(t.name)::oid AS oid UNION
                        SELECT relid FROM pg_partition_tree(to_regclass(t.name))) AS m
    JOIN pg_class AS c ON c.oid = m.oid AND c.relkind = 'r'
    LEFT JOIN pg_stat_all_tables AS s ON s.relid = c.oid
    GROUP BY t.name) AS known
WHERE never OR changed > greatest(rows / 5, 1000)
ORDER BY 1
