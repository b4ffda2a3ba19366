-- Databases that moves create on registered servers, and backups as events.
--
-- Runnable in psql. A routers' process that does not know the reference server:NAME finds that it leads nowhere,
-- as with a variable that is not set.

ALTER TABLE tenantry.database DROP CONSTRAINT database_dsn_check;
ALTER TABLE tenantry.database ADD CONSTRAINT database_dsn_check CHECK (dsn = 'config' OR dsn ~ '^(env|file|server):.+$');
COMMENT ON COLUMN tenantry.database.dsn IS
    'A reference: env:NAME, file:PATH, server:NAME (of the configuration) or config; never a credential';

ALTER TABLE tenantry.move_object DROP CONSTRAINT move_object_kind_check;
ALTER TABLE tenantry.move_object ADD CONSTRAINT move_object_kind_check
    CHECK (kind IN ('schema', 'rows', 'publication', 'slot', 'subscription', 'database'));

-- Finds each database's last backup without reading who did what else.
CREATE INDEX event_backup ON tenantry.event (database, at) WHERE kind = 'backup.done';
