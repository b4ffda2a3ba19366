-- What the tenants $3 used per day, from day $1 to before $2, in every database and from every source.
WITH used AS (
    SELECT day, database, tenant, source, busy_seconds, held_seconds, waited_seconds, commits, rollbacks, errors,
           statements
    FROM tenantry.usage_day WHERE day >= $1::date AND day < $2::date AND tenant = ANY($3::text[])
    UNION ALL
    SELECT (hour AT TIME ZONE 'UTC')::date, database, tenant, 'measured', busy_seconds, held_seconds,
           waited_seconds, commits, rollbacks, errors, statements
    FROM tenantry.usage
    WHERE hour >= $1::date::timestamp AT TIME ZONE 'UTC' AND hour < $2::date::timestamp AT TIME ZONE 'UTC'
      AND tenant = ANY($3::text[])
)
SELECT day, database, tenant, source, sum(busy_seconds) AS busy, sum(held_seconds) AS held,
       sum(waited_seconds) AS waited, sum(commits)::bigint AS commits, sum(rollbacks)::bigint AS rollbacks,
       sum(errors)::bigint AS errors, sum(statements)::bigint AS statements
FROM used GROUP BY day, database, tenant, source ORDER BY day, database, tenant, source
