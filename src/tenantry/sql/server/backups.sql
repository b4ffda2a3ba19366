-- Seconds since each database's last good backup began. Whoever makes backups by other means says so with
-- INSERT INTO tenantry.event (kind, actor, database) VALUES ('backup.done', 'who', 'acme').
SELECT database,
    extract(epoch FROM clock_timestamp() - max(at - make_interval(secs => coalesce((detail ->> 'seconds')::float8, 0))))::float8
    AS age
FROM tenantry.event WHERE kind = 'backup.done' AND database IS NOT NULL GROUP BY database
