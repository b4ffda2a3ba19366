CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    done text;
BEGIN
    IF pg_advisory_unlock_all() IS NULL THEN END IF;
    IF pg_try_advisory_xact_lock_shared(1415071060, hashtext(tenant))
       AND current_setting('transaction_isolation') = 'read committed' THEN
        IF EXISTS (SELECT FROM tenantry.placement AS p
                   WHERE p.tenant = tenant AND p.database = 'shared' AND NOT p.suspended) THEN
            EXECUTE format('SET LOCAL app.current_tenant = %L', tenant);
            done := set_config('application_name', tenantry.tag(tenant), true)
                    || set_config('tenantry.bound', tenant, true);
            RETURN;
        END IF;
    END IF;
    PERFORM tenantry.bind(tenant);
END
$$;
