-- The tenant of this transaction, for the product's own SQL; NULL: none.
CREATE OR REPLACE FUNCTION tenantry.current_tenant() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT nullif(pg_catalog.current_setting('app.current_tenant', true), '')::pg_catalog.uuid
$$;
