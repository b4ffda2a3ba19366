-- The ledger from day $1 to before $2: one row for each day, database, tenant and source that had use.
WITH used AS (
    SELECT day, database, tenant, source, busy_seconds, held_seconds, waited_seconds, commits, rollbacks, errors,
           statements
    FROM tenantry.usage_day WHERE day >= $1::date AND day < $2::date
    UNION ALL
    SELECT (hour AT TIME ZONE 'UTC')::date, database, tenant, 'measured', busy_seconds, held_seconds,
           waited_seconds, commits, rollbacks, errors, statements
    FROM tenantry.usage
    WHERE hour >= $1::date::timestamp AT TIME ZONE 'UTC' AND hour < $2::date::timestamp AT TIME ZONE 'UTC'
)
SELECT day, database, tenant, sum(used.busy_seconds) AS busy,
       CASE WHEN max(t.covered) >= 0.95 THEN max(t.busy_seconds) / max(t.covered) END AS total,
       coalesce(least(max(t.covered), max(t.reported)), 0) AS coverage, sum(held_seconds), sum(waited_seconds),
       sum(commits)::bigint, sum(rollbacks)::bigint, sum(errors)::bigint, sum(statements)::bigint, source
FROM used LEFT JOIN tenantry.database_usage_day AS t USING (day, database, source)
GROUP BY day, database, tenant, source ORDER BY day, database, tenant, source
