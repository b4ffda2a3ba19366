CREATE OR REPLACE FUNCTION tenantry.notify_databases() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('tenantry_directory', '{"databases": "*"}');
    RETURN NULL;
END
$$;
