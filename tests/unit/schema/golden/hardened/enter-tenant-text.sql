CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenantry.bind(tenant);
END
$$;
