-- What the routers' role needs in the control database: the directory, the ledger and the journal, by name. A
-- control database may be a data database too, whose secret and placements are not the routers' to read or write.
-- :role stands for the quoted name of the role (psql: -v role=…).
GRANT USAGE ON SCHEMA tenantry TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    tenantry.database, tenantry.tenant, tenantry.usage, tenantry.usage_day, tenantry.reporter, tenantry.reported,
    tenantry.database_usage, tenantry.database_usage_day, tenantry.database_reading, tenantry.sample,
    tenantry.sampled, tenantry.storage, tenantry.waiting, tenantry.move, tenantry.move_object,
    tenantry.sync_token, tenantry.migrate_run, tenantry.migrate_database TO :role;
-- The record of who did what is written and amended, never taken away.
GRANT SELECT, INSERT, UPDATE ON tenantry.event TO :role;
GRANT SELECT ON tenantry.migration TO :role;
GRANT USAGE ON SEQUENCE tenantry.move_id_block TO :role;
GRANT EXECUTE ON FUNCTION tenantry.move_lock_space() TO :role;
