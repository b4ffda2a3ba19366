-- What the witness saw from $1 to before $2: sessions by database, tenant and wait class, and samples.
--
-- Ids that were hashed to fit into application_name are found among the tenants that have use in those hours.
WITH seen AS (
    SELECT database, tenant, wait, sum(sessions)::bigint AS sessions FROM tenantry.sample
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz GROUP BY database, tenant, wait
), hashed AS (
    SELECT DISTINCT '#' || md5(convert_to(tenant, 'UTF8')) AS tag, tenant
    FROM (SELECT tenant FROM tenantry.usage WHERE hour >= $1::timestamptz AND hour < $2::timestamptz
          UNION SELECT tenant FROM tenantry.usage_day
          WHERE day >= ($1::timestamptz AT TIME ZONE 'UTC')::date AND day <= ($2::timestamptz AT TIME ZONE 'UTC')::date) AS used
    WHERE EXISTS (SELECT FROM seen WHERE seen.tenant LIKE '#%')
), samples AS (
    SELECT database, sum(samples)::bigint AS samples FROM tenantry.sampled
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz GROUP BY database
)
SELECT samples.database, coalesce(hashed.tenant, seen.tenant) AS tenant, seen.wait, seen.sessions, samples.samples
FROM samples LEFT JOIN seen USING (database) LEFT JOIN hashed ON hashed.tag = seen.tenant
ORDER BY 1, 2, 3
