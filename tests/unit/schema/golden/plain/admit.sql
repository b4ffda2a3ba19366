-- The same as yes or no; no: no tenant is set.
CREATE OR REPLACE FUNCTION tenantry.admit() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN tenantry.admitted_tenant() IS NOT NULL;
END
$$;
