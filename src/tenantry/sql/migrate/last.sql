-- The newest unfinished run of `tenantry migrate`, else the newest one, and whether somebody runs one now. $1: the
-- advisory lock of who does.
SELECT r.*, EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = $1::bigint::oid
        AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS alive
FROM tenantry.migrate_run AS r ORDER BY r.state IN ('running', 'stopped') DESC, r.started_at DESC LIMIT 1
