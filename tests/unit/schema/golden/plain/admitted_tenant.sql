-- What bind checks, for a transaction that set the tenant itself. NULL: no tenant is set. Raises as bind does.
CREATE OR REPLACE FUNCTION tenantry.admitted_tenant() RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    tenant CONSTANT text := current_setting('app.current_tenant', true);
    database text;
    suspended boolean;
BEGIN
    IF tenant IS NULL OR tenant = '' THEN
        RETURN NULL;
    END IF;
    IF NOT pg_try_advisory_xact_lock_shared(1415071060, hashtext(tenant)) THEN
        RAISE EXCEPTION 'tenant % is fenced: it is being moved', tenant
            USING ERRCODE = 'TN002', HINT = 'Try again: the fence lasts less than a second.';
    END IF;
    IF current_setting('transaction_isolation') = 'read committed'
       OR current_setting('transaction_read_only') = 'on' THEN
        SELECT p.database, p.suspended INTO database, suspended FROM tenantry.placement AS p
            WHERE p.tenant = tenant;
    ELSE
        SELECT p.database, p.suspended INTO database, suspended FROM tenantry.placement AS p
            WHERE p.tenant = tenant FOR SHARE;
    END IF;
    IF database IS DISTINCT FROM 'shared' OR suspended THEN
        PERFORM tenantry.refuse(tenant);
    END IF;
    RETURN tenant::uuid;
END
$$;
