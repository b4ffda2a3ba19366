-- Which files hold some tables ($1: names as in shape.sql), partitions included: TRUNCATE and every rewrite
-- change them, and logical replication with a row filter carries neither.
SELECT coalesce(string_agg(c.oid::text || ':' || pg_relation_filenode(c.oid)::text, ',' ORDER BY c.oid), '')
FROM unnest($1::text[]) AS name
CROSS JOIN LATERAL (
    SELECT to_regclass(name)::oid AS oid WHERE to_regclass(name) IS NOT NULL
    UNION SELECT relid FROM pg_partition_tree(to_regclass(name))) AS member
JOIN pg_class AS c ON c.oid = member.oid AND c.relkind = 'r'
