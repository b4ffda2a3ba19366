-- For who has just become the one who migrates: whatever says that it is running is of a process that has died.
-- Returns where its commands were at work.
WITH run AS (
    UPDATE tenantry.migrate_run SET state = 'stopped', changed_at = now() WHERE state = 'running'
)
UPDATE tenantry.migrate_database SET state = 'interrupted', error = 'the process that ran it has died', changed_at = now()
WHERE state = 'running' RETURNING database
