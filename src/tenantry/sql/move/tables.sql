-- What a move must know of some tables ($1: their object ids) beside what the catalog's reader says of them: how large
-- they are with their partitions, whether our role may do what the owner may, and who has been granted something.
SELECT
    c.oid::bigint AS oid,
    pg_total_relation_size(c.oid) + coalesce((
        SELECT sum(pg_total_relation_size(t.relid)) FROM pg_partition_tree(c.oid) AS t WHERE t.relid <> c.oid
    ), 0)::bigint AS bytes,
    pg_has_role(c.relowner, 'USAGE') AS ours,
    ARRAY(SELECT DISTINCT pg_get_userbyid(acl.grantee)::text FROM aclexplode(c.relacl) AS acl
          WHERE acl.grantee <> 0) AS grantees
FROM pg_class AS c WHERE c.oid = ANY ($1::bigint[]::oid[])
