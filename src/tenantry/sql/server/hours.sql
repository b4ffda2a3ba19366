-- What each database's $3 largest tenants used in the hours from $1 to before $2; everybody else as NULL.
WITH ranked AS (
    SELECT hour, database, tenant, busy_seconds, waited_seconds, commits + rollbacks AS transactions, errors,
           row_number() OVER (PARTITION BY hour, database ORDER BY busy_seconds DESC, tenant) AS place
    FROM tenantry.usage WHERE hour >= $1::timestamptz AND hour < $2::timestamptz
)
SELECT hour, database, CASE WHEN place <= $3::int THEN tenant END AS tenant, sum(busy_seconds) AS busy,
       sum(waited_seconds) AS waited, sum(transactions)::bigint AS transactions, sum(errors)::bigint AS errors
FROM ranked GROUP BY hour, database, 3
