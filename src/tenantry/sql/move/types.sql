-- What a move must know of some types ($1: their object ids).
SELECT
    t.oid::bigint AS oid,
    -- Whether the binary format means the same in another database. As in digest.sql.
    t.oid < 10000 AND t.typtype IN ('b', 'r', 'm') AND t.typname !~ '^_?reg'
        AND t.typsend <> 0 AND (e.oid IS NULL OR e.typtype IN ('b', 'r', 'm') AND e.typsend <> 0) AS portable,
    t.typname IN ('oid', 'lo') AS oid_type,
    t.typtype NOT IN ('b', 'd') OR t.typcategory = 'A' OR EXISTS (
        SELECT FROM pg_opclass AS o JOIN pg_am AS m ON m.oid = o.opcmethod AND m.amname IN ('btree', 'hash')
        WHERE o.opcdefault AND o.opcintype IN (
            SELECT coalesce(nullif(t.typbasetype, 0), t.oid) UNION
            SELECT k.casttarget FROM pg_cast AS k WHERE k.castmethod = 'b'
              AND k.castsource = coalesce(nullif(t.typbasetype, 0), t.oid))) AS comparable
FROM pg_type AS t LEFT JOIN pg_type AS e ON e.oid = t.typelem
WHERE t.oid = ANY ($1::bigint[]::oid[])
