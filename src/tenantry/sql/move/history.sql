-- What the last moves out of a database ($1) took: sizes as planned, seconds as measured. Moves that were broken
-- off have no measured step, and small ones say nothing about rates.
SELECT m.id, p.bytes, p.rows, (m.result -> 'seconds' ->> 'copy')::float8 AS copy,
    coalesce((m.result -> 'seconds' ->> 'build_indexes')::float8, 0) AS indexes,
    (m.result -> 'seconds' ->> 'verify')::float8 AS verify,
    (m.result ->> 'copied_rows')::bigint AS copied, (m.result ->> 'verified_rows')::bigint AS verified,
    (m.result ->> 'pause_seconds')::float8 AS pause
FROM tenantry.move AS m CROSS JOIN LATERAL (
    SELECT sum((t ->> 'bytes')::bigint)::bigint AS bytes, sum((t ->> 'rows')::bigint)::bigint AS rows
    FROM jsonb_array_elements(m.plan -> 'tables') AS t) AS p
WHERE m.source = $1 AND m.flipped_at IS NOT NULL AND m.plan ->> 'mechanism' = 'replication'
ORDER BY m.flipped_at DESC LIMIT 20
