-- For routers that don't count their statements.
CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_advisory_unlock_all() IS NULL THEN END IF;
    PERFORM tenantry.bind(tenant);
END
$$;
