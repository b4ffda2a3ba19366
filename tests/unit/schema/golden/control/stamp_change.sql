-- Stamps a changed row with its transaction, so that a router can ask for what changed since it last asked.
CREATE OR REPLACE FUNCTION tenantry.stamp_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.changed := pg_current_xact_id();
    RETURN NEW;
END
$$;
