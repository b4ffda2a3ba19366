CREATE OR REPLACE FUNCTION tenantry.lock_key(tenant text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.hashtext(tenant)
$$;
