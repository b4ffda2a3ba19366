CREATE OR REPLACE FUNCTION tenantry.bind(tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET citus.propagate_set_commands = 'local' AS $$
#variable_conflict use_variable
DECLARE
    database text;
    suspended boolean;
    done text;
BEGIN
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
    EXECUTE format('SET LOCAL app.current_tenant = %L', tenant);
    EXECUTE format('SET LOCAL tenantry.bound = %L', tenant);
    done := set_config('application_name', tenantry.tag(tenant), true);
END
$$;
