-- The names of the first release, and the record of which functions are applied.
--
-- Runnable in psql. Databases made before the first release have the old names; where they are not there, nothing
-- is renamed.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'tenantry.move_object'::regclass AND attname = 'meant_at') THEN
        ALTER TABLE tenantry.move_object RENAME COLUMN meant_at TO intended_at;
        ALTER TABLE tenantry.move_object RENAME COLUMN gone_at TO removed_at;
    END IF;
END
$$;
-- Their successors are called notify_….
DROP FUNCTION IF EXISTS tenantry.tell_tenants() CASCADE;
DROP FUNCTION IF EXISTS tenantry.tell_databases() CASCADE;

CREATE TABLE IF NOT EXISTS tenantry.function_set (
    side         text PRIMARY KEY,          -- 'control' or 'data': one database may be both
    form         text NOT NULL,             -- which form of the functions: 'plain', 'hardened', 'citus', 'control'
    checksum     text NOT NULL,             -- of their text, values filled in
    installed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenantry.function_set IS 'Which version of its functions this database has';
