-- What `tenantry migrate` has to say of some databases ($1: their names): where it is at work now ($2: its advisory locks),
-- and which ones an unfinished run has left behind.
SELECT d.name AS database, r.id AS run, m.state, EXISTS (
    SELECT FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.granted AND l.mode = 'ExclusiveLock' AND l.objsubid = 2
        AND l.classid = $2::bigint::oid AND l.objid::bigint = hashtext(d.name)::bigint & 4294967295
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS locked
FROM unnest($1::text[]) AS d (name)
LEFT JOIN (tenantry.migrate_database AS m
           JOIN tenantry.migrate_run AS r ON r.id = m.run AND r.state IN ('running', 'stopped') AND m.state <> 'done')
    ON m.database = d.name
ORDER BY 1, 2
