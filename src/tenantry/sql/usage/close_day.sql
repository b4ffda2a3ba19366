-- Works out each database's total of day $1, of which the fleet reported $2 (0 to 1). May be run again and again.
--
-- An hour's total is the server's own figure, or the sum of the tenants' if that is larger: routers also see the
-- network's part of a statement, and a tenant's share can't be more than the whole.
WITH span AS (
    SELECT $1::date::timestamp AT TIME ZONE 'UTC' AS first, ($1::date + 1)::timestamp AT TIME ZONE 'UTC' AS after
), tenants AS (
    SELECT u.hour, u.database, sum(u.busy_seconds) AS busy
    FROM span, tenantry.usage AS u WHERE u.hour >= span.first AND u.hour < span.after
    GROUP BY u.hour, u.database
), server AS (
    SELECT d.hour, d.database, d.busy_seconds AS busy, d.covered_seconds AS covered
    FROM span, tenantry.database_usage AS d WHERE d.hour >= span.first AND d.hour < span.after
)
INSERT INTO tenantry.database_usage_day AS d (day, database, source, busy_seconds, covered, reported, attributed_seconds)
SELECT $1::date, database, 'measured', sum(greatest(server.busy, tenants.busy)),
       least(1, coalesce(sum(server.covered), 0) / 86400), $2::float8,
       coalesce(sum(tenants.busy), 0)
FROM tenants FULL JOIN server USING (hour, database)
GROUP BY database
ON CONFLICT (day, database, source) DO UPDATE SET
    busy_seconds = excluded.busy_seconds, covered = excluded.covered, reported = excluded.reported,
    attributed_seconds = excluded.attributed_seconds
WHERE NOT d.final
