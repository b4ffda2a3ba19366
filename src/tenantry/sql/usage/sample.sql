-- Who is on this database now: sessions by tenant tag, state and wait class. Runnable in psql.
--
-- A session that is active and waits for nothing is on a CPU, or wants to be. Rows of other roles can be seen
-- by members of pg_monitor only; those that can't are counted as hidden. One that has just begun has no state yet.
SELECT CASE WHEN application_name LIKE 'tenantry:%' THEN substr(application_name, 10) ELSE '' END AS tenant,
       CASE WHEN query = '<insufficient privilege>' THEN 'hidden' ELSE coalesce(state, 'starting') END AS state,
       CASE WHEN state LIKE 'idle%' THEN 'Client' ELSE coalesce(wait_event_type, 'CPU') END AS wait,
       count(*) AS sessions,
       coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0)::float8 AS longest
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND (backend_type IN ('client backend', 'parallel worker') OR query = '<insufficient privilege>')
GROUP BY 1, 2, 3
