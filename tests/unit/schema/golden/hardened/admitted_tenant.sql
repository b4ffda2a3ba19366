-- The tenant, if the mark is the one that bind has left for it in this transaction. NULL: no tenant is set.
CREATE OR REPLACE FUNCTION tenantry.admitted_tenant() RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    tenant CONSTANT text := current_setting('app.current_tenant', true);
BEGIN
    IF tenant IS NULL OR tenant = '' THEN
        RETURN NULL;
    END IF;
    IF NOT EXISTS (
        SELECT FROM tenantry.secret AS s
        WHERE current_setting('tenantry.proof', true) = encode(sha256(s.outer_pad || sha256(s.inner_pad || convert_to(
            'scope ' || pg_backend_pid() || ' ' || extract(epoch FROM now()) || ' ' || tenant, 'UTF8'))), 'hex')) THEN
        RAISE EXCEPTION 'the tenant was not set by the router' USING ERRCODE = 'TN004';
    END IF;
    RETURN tenant::uuid;
END
$$;
