-- The names of the first release, and the record of which functions are applied.
--
-- Runnable in psql. Databases made before the first release have the old names; where they are not there, nothing
-- is renamed. Functions that running routers call keep their names and parameters.

DO $$
DECLARE
    old text;
BEGIN
    IF to_regclass('tenantry.local') IS NOT NULL THEN
        ALTER TABLE tenantry.local RENAME TO database_identity;
        ALTER TABLE tenantry.placement RENAME COLUMN home TO database;
        FOR old IN SELECT conname FROM pg_constraint
                   WHERE conrelid = 'tenantry.database_identity'::regclass AND conname LIKE 'local\_%' LOOP
            EXECUTE format('ALTER TABLE tenantry.database_identity RENAME CONSTRAINT %I TO %I', old,
                           'database_identity' || substr(old, 6));
        END LOOP;
    END IF;
END
$$;
-- Functions were once made by this program inside the database.
DROP FUNCTION IF EXISTS tenantry.configure(text, text, text, text, text, boolean);

CREATE TABLE IF NOT EXISTS tenantry.function_set (
    side         text PRIMARY KEY,          -- 'control' or 'data': one database may be both
    form         text NOT NULL,             -- which form of the functions: 'plain', 'hardened', 'citus', 'control'
    checksum     text NOT NULL,             -- of their text, values filled in
    installed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenantry.function_set IS 'Which version of its functions this database has';
