-- Tenants that had more than the share $3 of a database on some day from $1 to before $2, and the $4 largest of
-- each database.
WITH total AS (
    SELECT DISTINCT ON (database, day) database, day, source, busy_seconds
    FROM tenantry.database_usage_day WHERE day >= $1::date AND day < $2::date
    ORDER BY database, day, least(covered, reported) DESC, source = 'measured' DESC, source
), used AS (
    SELECT day, database, tenant, source, busy_seconds FROM tenantry.usage_day
    WHERE day >= $1::date AND day < $2::date
    UNION ALL
    SELECT (hour AT TIME ZONE 'UTC')::date, database, tenant, 'measured', busy_seconds FROM tenantry.usage
    WHERE hour >= $1::date::timestamp AT TIME ZONE 'UTC' AND hour < $2::date::timestamp AT TIME ZONE 'UTC'
), days AS (
    SELECT database, tenant, day, source, sum(busy_seconds) AS busy FROM used GROUP BY database, tenant, day, source
), tenants AS (
    SELECT d.database, d.tenant, sum(d.busy) AS busy, bool_or(d.busy > $3::float8 * t.busy_seconds) AS heavy
    FROM days AS d JOIN total AS t USING (database, day, source) GROUP BY d.database, d.tenant
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY database ORDER BY busy DESC, tenant) AS rank FROM tenants
)
SELECT DISTINCT tenant FROM ranked WHERE heavy OR rank <= $4::bigint
