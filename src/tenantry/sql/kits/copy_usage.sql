-- Days from $1 on of the tenants $2, from the ledger: what usage_copy takes.
SELECT tenant, day, database, sum(busy_seconds) AS busy_seconds, sum(held_seconds) AS held_seconds,
       sum(waited_seconds) AS waited_seconds, sum(commits)::bigint AS commits, sum(rollbacks)::bigint AS rollbacks,
       sum(errors)::bigint AS errors, sum(statements)::bigint AS statements, statement_timestamp() AS as_of
FROM (SELECT tenant, (hour AT TIME ZONE 'UTC')::date AS day, database, busy_seconds, held_seconds, waited_seconds,
             commits, rollbacks, errors, statements
      FROM tenantry.usage WHERE hour >= $1::date::timestamp AT TIME ZONE 'UTC' AND tenant = ANY ($2::text[])
      UNION ALL
      SELECT tenant, day, database, busy_seconds, held_seconds, waited_seconds, commits, rollbacks, errors, statements
      FROM tenantry.usage_day WHERE day >= $1::date AND source = 'measured' AND tenant = ANY ($2::text[])) AS used
GROUP BY tenant, day, database
