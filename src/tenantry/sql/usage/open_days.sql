-- Days up to $1 that have hourly rows and are not final.
WITH hours AS (
    SELECT least((SELECT min(hour) FROM tenantry.usage), (SELECT min(hour) FROM tenantry.database_usage)) AS first
)
SELECT day::date AS day
FROM hours, generate_series(date_trunc('day', hours.first AT TIME ZONE 'UTC'), $1::date::timestamp,
                            interval '1 day') AS day
WHERE NOT EXISTS (SELECT FROM tenantry.database_usage_day AS d
                  WHERE d.day = day::date AND d.source = 'measured' AND d.final)
  AND (EXISTS (SELECT FROM tenantry.usage
               WHERE hour >= day AT TIME ZONE 'UTC' AND hour < (day + interval '1 day') AT TIME ZONE 'UTC')
       OR EXISTS (SELECT FROM tenantry.database_usage
                  WHERE hour >= day AT TIME ZONE 'UTC' AND hour < (day + interval '1 day') AT TIME ZONE 'UTC'))
ORDER BY 1
