-- Trigger of a data database, made where it is not there: to replace it would lock the table. It fires for what
-- replication brings, too.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                   WHERE tgrelid = 'tenantry.placement'::regclass AND tgname = 'keep_newest') THEN
        CREATE TRIGGER keep_newest BEFORE UPDATE ON tenantry.placement
            FOR EACH ROW EXECUTE FUNCTION tenantry.keep_newest_placement();
        ALTER TABLE tenantry.placement ENABLE ALWAYS TRIGGER keep_newest;
    END IF;
END
$$;
