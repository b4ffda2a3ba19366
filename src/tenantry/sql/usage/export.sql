-- The ledger from day $1 to before $2: one row for each day, database, tenant and source that had use, and one without
-- a tenant for a day on which nobody had any.
WITH used AS (
    SELECT day, database, tenant, source, busy_seconds, held_seconds, waited_seconds, commits, rollbacks, errors,
           statements
    FROM tenantry.usage_day WHERE day >= $1::date AND day < $2::date
    UNION ALL
    SELECT (hour AT TIME ZONE 'UTC')::date, database, tenant, 'measured', busy_seconds, held_seconds,
           waited_seconds, commits, rollbacks, errors, statements
    FROM tenantry.usage
    WHERE hour >= $1::date::timestamp AT TIME ZONE 'UTC' AND hour < $2::date::timestamp AT TIME ZONE 'UTC'
), tenants AS (
    SELECT day, database, tenant, source, sum(busy_seconds) AS busy, sum(held_seconds) AS held,
           sum(waited_seconds) AS waited, sum(commits)::bigint AS commits, sum(rollbacks)::bigint AS rollbacks,
           sum(errors)::bigint AS errors, sum(statements)::bigint AS statements,
           max(sum(busy_seconds)) OVER (PARTITION BY day, database, source) AS largest
    FROM used GROUP BY day, database, tenant, source
), totals AS (
    SELECT * FROM tenantry.database_usage_day WHERE day >= $1::date AND day < $2::date
)
SELECT day, database, coalesce(u.tenant, '') AS tenant, coalesce(u.busy, 0),
       CASE WHEN t.covered >= 0.95
            THEN greatest((t.busy_seconds - t.excess_seconds) / t.covered + t.excess_seconds, u.largest) END,
       coalesce(least(t.covered, t.reported), 0), coalesce(u.held, 0), coalesce(u.waited, 0), coalesce(u.commits, 0),
       coalesce(u.rollbacks, 0), coalesce(u.errors, 0), coalesce(u.statements, 0), source,
       coalesce(t.excess_seconds, 0), coalesce(t.excess_statements, 0)
FROM tenants AS u FULL JOIN totals AS t USING (day, database, source)
ORDER BY day, database, tenant, source
