-- Tables ($1) that a transaction has written which may be at its commit now. It holds its lock until everybody sees
-- what it wrote; one that is idle between two statements has not begun to commit.
WITH RECURSIVE part (name, oid) AS (
    SELECT name, to_regclass(name)::oid FROM unnest($1::text[]) AS name
    UNION ALL
    SELECT part.name, i.inhrelid FROM pg_inherits AS i JOIN part ON i.inhparent = part.oid
)
SELECT DISTINCT part.name
FROM part JOIN pg_locks AS l ON l.relation = part.oid LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND coalesce(a.state, '') NOT LIKE 'idle in transaction%'
ORDER BY 1
