-- How large table $1 in schema $2 is, and the expression for the size of one of its rows on disk.
--
-- pg_column_size of each column reads a TOAST pointer, not what it points to; of the whole row it would fetch it.
SELECT pg_relation_size(c.oid) / current_setting('block_size')::bigint AS pages,
       pg_total_relation_size(c.oid) AS bytes,
       (SELECT string_agg(format('coalesce(pg_column_size(%I), 0)', a.attname), ' + ')
        FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS row_size
FROM pg_class AS c WHERE c.oid = format('%I.%I', $2::text, $1::text)::regclass
