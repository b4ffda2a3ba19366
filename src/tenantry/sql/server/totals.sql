-- Seconds that each database was executing in the hours from $1 to before $2, and how much of each hour is known.
SELECT hour, database, busy_seconds, covered_seconds FROM tenantry.database_usage
WHERE hour >= $1::timestamptz AND hour < $2::timestamptz
