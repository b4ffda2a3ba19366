-- Routers that report, and those that have left or fallen silent within a day, the newest first; $1 at most.
SELECT id::text, started_at, reported_until, stopped_at FROM tenantry.reporter
WHERE kind = 'router' AND (stopped_at IS NULL OR stopped_at > now() - interval '1 day')
  AND reported_until > now() - interval '1 day'
ORDER BY stopped_at IS NOT NULL, reported_until DESC LIMIT $1
