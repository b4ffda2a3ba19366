-- The same as sample.sql where Citus is, on the coordinator: who is on this database now, its workers included. Runnable in psql.
--
-- A worker's session carries the global process id of the coordinator's session that it works for, which has the tag. A
-- session of the coordinator that waits for its workers is not counted beside them.
WITH everywhere AS (
    SELECT a.global_pid, a.is_worker_query, a.application_name, a.state, a.wait_event_type, a.query_start, a.backend_type, a.query
    FROM pg_catalog.citus_stat_activity AS a
    WHERE a.datname = current_database() AND a.global_pid IS DISTINCT FROM pg_catalog.citus_backend_gpid()
), tagged AS (
    SELECT DISTINCT ON (e.global_pid) e.global_pid, substr(e.application_name, 10) AS tenant FROM everywhere AS e
    WHERE NOT e.is_worker_query AND e.application_name LIKE 'tenantry:%'
)
SELECT coalesce(t.tenant, '') AS tenant, coalesce(e.state, 'hidden') AS state,
       CASE WHEN e.state LIKE 'idle%' THEN 'Client' ELSE coalesce(e.wait_event_type, 'CPU') END AS wait,
       count(*) AS sessions,
       coalesce(max(extract(epoch FROM clock_timestamp() - e.query_start)), 0)::float8 AS longest
FROM everywhere AS e LEFT JOIN tagged AS t USING (global_pid)
WHERE (e.backend_type IN ('client backend', 'parallel worker') OR e.query = '<insufficient privilege>')
  AND NOT (e.is_worker_query AND e.state IS DISTINCT FROM 'active')
  AND NOT (NOT e.is_worker_query AND e.state = 'active' AND EXISTS (
      SELECT FROM everywhere AS w WHERE w.global_pid = e.global_pid AND w.is_worker_query AND w.state = 'active'))
GROUP BY 1, 2, 3
