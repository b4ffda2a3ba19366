-- Tenants that may have had more than the share $3 of a database on some day from $1 to before $2, and the $4
-- largest of each database and day.
--
-- Days that are rolled up are looked up by index. Of hours that are not, every tenant is taken that had more than
-- the share of an hour: whoever has it of the day has it of one of its hours. The whole is the server's figure where
-- the tenants' sum is larger: with the delays taken off, a tenant may have more of it than of the sum.
WITH days AS (
    SELECT DISTINCT ON (database, day) database, day, source, busy_seconds - excess_seconds AS executing
    FROM tenantry.database_usage_day WHERE day >= $1::date AND day < $2::date
    ORDER BY database, day, least(covered, reported) DESC, source = 'measured' DESC, source
), recent AS MATERIALIZED (
    SELECT u.hour, u.database, u.tenant, u.busy_seconds FROM tenantry.usage AS u
    WHERE u.hour >= $1::date::timestamp AT TIME ZONE 'UTC' AND u.hour < $2::date::timestamp AT TIME ZONE 'UTC'
), hours AS (
    SELECT hour, database, CASE WHEN server.covered_seconds >= 0.95 * 3600 THEN least(used.busy, server.busy_seconds)
                                ELSE used.busy END AS busy
    FROM (SELECT hour, database, sum(busy_seconds) AS busy FROM recent GROUP BY hour, database) AS used
         LEFT JOIN tenantry.database_usage AS server USING (hour, database)
), last AS (
    SELECT database, tenant, row_number() OVER (PARTITION BY database ORDER BY sum(busy_seconds) DESC, tenant) AS rank
    FROM recent WHERE hour > (SELECT max(hour) FROM hours) - interval '24 hours' GROUP BY database, tenant
)
SELECT heavy.tenant FROM days, LATERAL (
    SELECT d.tenant FROM tenantry.usage_day AS d
    WHERE d.day = days.day AND d.database = days.database AND d.source = days.source
      AND d.busy_seconds > $3::float8 * days.executing
) AS heavy
UNION
SELECT large.tenant FROM days, LATERAL (
    SELECT d.tenant FROM tenantry.usage_day AS d
    WHERE d.day = days.day AND d.database = days.database AND d.source = days.source
    ORDER BY d.busy_seconds DESC LIMIT $4::bigint
) AS large
UNION
SELECT recent.tenant FROM recent JOIN hours USING (hour, database)
WHERE recent.busy_seconds > $3::float8 * hours.busy
UNION
SELECT last.tenant FROM last WHERE last.rank <= $4::bigint
