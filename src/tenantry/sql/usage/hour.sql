-- The use of the hour $1: the tenants $2 by name, everybody else as _other.
SELECT CASE WHEN tenant = ANY($2::text[]) THEN tenant ELSE '_other' END AS label, database,
       sum(busy_seconds) AS busy, sum(waited_seconds) AS waited, sum(commits)::bigint AS commits,
       sum(rollbacks)::bigint AS rollbacks, sum(errors)::bigint AS errors
FROM tenantry.usage WHERE hour = $1::timestamptz
GROUP BY 1, 2
