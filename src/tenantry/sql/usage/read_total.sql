-- The database's own counters: what its sessions have executed since its statistics were last reset.
--
-- Runnable in psql, on the database itself. active_time (14+) is in milliseconds and counts a statement when it
-- ends. The other counters only ever grow, so one that shrank tells of a reset that left no date.
SELECT d.active_time / 1000.0 AS busy_seconds,
       extract(epoch FROM d.stats_reset)::float8 AS reset_at,
       extract(epoch FROM pg_postmaster_start_time())::float8 AS started_at,
       extract(epoch FROM clock_timestamp())::float8 AS at,
       d.session_time AS sessions_ms,
       d.xact_commit + d.xact_rollback AS transactions,
       d.blks_hit + d.blks_read AS blocks,
       current_setting('track_activities')::boolean AS tracked
FROM pg_stat_database AS d
WHERE d.datname = current_database()
