-- Triggers of the control database, made where they are not there: to replace one would lock its table.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'tenantry.tenant'::regclass AND tgname = 'stamp') THEN
        CREATE TRIGGER stamp BEFORE UPDATE ON tenantry.tenant
            FOR EACH ROW EXECUTE FUNCTION tenantry.stamp_change();
        CREATE TRIGGER stamp BEFORE UPDATE ON tenantry.database
            FOR EACH ROW EXECUTE FUNCTION tenantry.stamp_change();
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'tenantry.tenant'::regclass AND tgname = 'notify_insert') THEN
        CREATE TRIGGER notify_insert AFTER INSERT ON tenantry.tenant
            REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION tenantry.notify_tenants();
        CREATE TRIGGER notify_update AFTER UPDATE ON tenantry.tenant
            REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION tenantry.notify_tenants();
        CREATE TRIGGER notify_delete AFTER DELETE ON tenantry.tenant
            REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION tenantry.notify_tenants();
        CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON tenantry.database
            FOR EACH STATEMENT EXECUTE FUNCTION tenantry.notify_databases();
    END IF;
END
$$;
