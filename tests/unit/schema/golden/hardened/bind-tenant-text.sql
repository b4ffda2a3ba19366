CREATE OR REPLACE FUNCTION tenantry.bind(tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'this database is hardened: bind needs the router''s proof' USING ERRCODE = 'TN004';
END
$$;
