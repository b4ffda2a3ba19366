-- Who has a table ($1: its name, quoted) locked, however weakly: those first who have been at it longest, and whether that
-- is longer than a second. A prepared transaction has no process, and counts as such.
SELECT CASE WHEN a.pid IS NULL THEN 'a prepared transaction'
            ELSE format('pid %s (%s, %s, %s for %s s)', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no name'),
                        a.state, round(extract(epoch FROM clock_timestamp() - a.xact_start)::numeric, 1)) END AS who,
       -- Whose start may not be seen is taken for one who has just begun.
       a.pid IS NULL OR coalesce(clock_timestamp() - a.xact_start > interval '1 s', false) AS long
FROM (SELECT DISTINCT pid FROM pg_locks
      WHERE locktype = 'relation' AND granted AND relation = to_regclass($1)
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.pid IS DISTINCT FROM pg_backend_pid()
ORDER BY a.xact_start NULLS FIRST
