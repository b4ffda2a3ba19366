-- With a proof, which the plain form does not need.
CREATE OR REPLACE FUNCTION tenantry.bind(tenant text, proof text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenantry.bind(tenant);
END
$$;
