-- Sessions whose role bypasses the fence and that hold a writer's lock on one of the tables ($1) now.
SELECT format('pid %s as %s (%s)', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no name')) AS who
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid JOIN pg_roles AS r ON r.rolname = a.usename
WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation = ANY (SELECT to_regclass(name)::oid FROM unnest($1::text[]) AS name)
  AND (r.rolsuper OR r.rolbypassrls) AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
  AND a.application_name NOT LIKE 'tenantry move %'
ORDER BY 1
