-- Who holds the lock of a tenant ($1), as an operator would look for them.
SELECT CASE WHEN l.pid IS NOT NULL THEN
    format('pid %s (%s, %s, %s for %s s)', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no name'),
           a.state, round(extract(epoch FROM clock_timestamp() - a.xact_start)::numeric, 1))
    -- A prepared transaction has no process; its lock on its own xid tells which one it is.
    ELSE coalesce((SELECT format('prepared transaction %s of %s', p.gid, p.owner)
                   FROM pg_prepared_xacts AS p JOIN pg_locks AS x ON x.transactionid = p.transaction
                   WHERE x.locktype = 'transactionid' AND x.pid IS NULL
                     AND x.virtualtransaction = l.virtualtransaction LIMIT 1), 'a prepared transaction')
    END AS who
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.classid = tenantry.lock_space()::oid
  AND l.objid::bigint = tenantry.lock_key($1)::bigint & 4294967295 AND l.objsubid = 2 AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.pid IS DISTINCT FROM pg_backend_pid()
ORDER BY 1
