-- Forgets what is past its time: $1 first day of the days that are kept, $2 first moment of the details.
WITH a AS (DELETE FROM tenantry.usage_day WHERE day < $1::date),
     b AS (DELETE FROM tenantry.database_usage_day WHERE day < $1::date),
     c AS (DELETE FROM tenantry.storage WHERE day < $1::date),
     d AS (DELETE FROM tenantry.database_usage WHERE hour < $2::timestamptz),
     e AS (DELETE FROM tenantry.reported WHERE hour < $2::timestamptz),
     f AS (DELETE FROM tenantry.sample WHERE hour < $2::timestamptz),
     g AS (DELETE FROM tenantry.sampled WHERE hour < $2::timestamptz),
     h AS (DELETE FROM tenantry.waiting WHERE said_at < $2::timestamptz)
DELETE FROM tenantry.reporter AS r
WHERE r.reported_until < $2::timestamptz
  AND r.reported_until < (SELECT max(newest.reported_until) FROM tenantry.reporter AS newest WHERE newest.kind = r.kind)
