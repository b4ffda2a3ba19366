-- A placement never goes backwards. The placement row travels by replication too, and may arrive after its
-- successor was written: then it is skipped. Anybody else who tries is told.
CREATE OR REPLACE FUNCTION tenantry.keep_newest_placement() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.epoch >= OLD.epoch THEN
        RETURN NEW;
    END IF;
    IF current_setting('session_replication_role') = 'replica' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'placement of tenant % is at epoch % already', OLD.tenant, OLD.epoch
        USING HINT = 'A placement only changes forwards: read it again.';
END
$$;
