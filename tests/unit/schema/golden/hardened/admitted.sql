CREATE OR REPLACE FUNCTION tenantry.admitted() RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT tenantry.admit()
$$;
