-- Works out each database's total of day $1, of which the fleet reported $2 (0 to 1). May be run again and again.
-- $3 is the present, in seconds since 1970 UTC.
--
-- An hour's total is the server's own figure, or the sum of the tenants' if that is larger: routers also see the
-- way to the server and their own process's delays. By how much it is larger, and over how many statements, is kept
-- too: `usage.shares` takes it off again, the same for each statement. Not of an hour of which the server's figure is
-- known in part only: there it is smaller for another reason.
--
-- What is known of a day are its hours that are known as a whole. Once they are enough for a total, the others are
-- presumed to be like them: what stands in those (a guess, what was left after a crash, the tenants' sum) must not be
-- counted beside that.
WITH span AS (
    SELECT $1::date::timestamp AT TIME ZONE 'UTC' AS first, ($1::date + 1)::timestamp AT TIME ZONE 'UTC' AS after
), tenants AS (
    SELECT u.hour, u.database, sum(u.busy_seconds) AS busy, sum(u.statements)::bigint AS statements
    FROM span, tenantry.usage AS u WHERE u.hour >= span.first AND u.hour < span.after
    GROUP BY u.hour, u.database
), server AS (
    SELECT d.hour, d.database, d.busy_seconds AS busy, d.covered_seconds AS covered,
           d.covered_seconds >= 0.95 * least(3600, $3::float8 - extract(epoch FROM d.hour)) AS whole
    FROM span, tenantry.database_usage AS d WHERE d.hour >= span.first AND d.hour < span.after
), day AS (
    SELECT database, sum(greatest(server.busy, tenants.busy)) AS seen,
           coalesce(sum(greatest(server.busy, tenants.busy)) FILTER (WHERE server.whole), 0) AS known,
           coalesce(sum(server.covered) FILTER (WHERE server.whole), 0) AS covered,
           coalesce(sum(tenants.busy), 0) AS attributed,
           coalesce(sum(tenants.busy - server.busy) FILTER (WHERE server.whole AND tenants.busy > server.busy), 0) AS excess,
           coalesce(sum(tenants.statements) FILTER (WHERE server.whole AND tenants.busy > server.busy), 0) AS statements
    FROM tenants FULL JOIN server USING (hour, database)
    GROUP BY database
)
INSERT INTO tenantry.database_usage_day AS d (day, database, source, busy_seconds, covered, reported, attributed_seconds,
                                            excess_seconds, excess_statements)
SELECT $1::date, database, 'measured',
       CASE WHEN covered >= 0.95 * 86400 THEN known ELSE seen END,
       least(1, covered / 86400), $2::float8, attributed, excess, statements
FROM day
ON CONFLICT (day, database, source) DO UPDATE SET
    busy_seconds = excluded.busy_seconds, covered = excluded.covered, reported = excluded.reported,
    attributed_seconds = excluded.attributed_seconds, excess_seconds = excluded.excess_seconds,
    excess_statements = excluded.excess_statements
WHERE NOT d.final
