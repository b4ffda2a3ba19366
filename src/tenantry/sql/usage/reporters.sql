-- The routers that may have been expected since $1, and the last one that left before.
(SELECT id, extract(epoch FROM started_at)::float8 AS started, extract(epoch FROM reported_until)::float8 AS until,
        extract(epoch FROM stopped_at)::float8 AS stopped
 FROM tenantry.reporter
 WHERE kind = 'router' AND reported_until >= $1::timestamptz - interval '1 hour')
UNION
(SELECT id, extract(epoch FROM started_at)::float8, extract(epoch FROM reported_until)::float8,
        extract(epoch FROM stopped_at)::float8
 FROM tenantry.reporter
 WHERE kind = 'router' AND reported_until < $1::timestamptz - interval '1 hour'
 ORDER BY reported_until DESC LIMIT 1)
