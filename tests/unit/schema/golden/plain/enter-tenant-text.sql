-- bind as a procedure, for the hot path: CALL costs the server half of what SELECT does. A scope begins
-- without session locks, and giving them back costs less here than as a statement of the reset. As few steps
-- as the common case needs: lock, then check. Whatever is uncommon is left to bind.
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
            done := set_config('app.current_tenant', tenant, true);
            done := set_config('application_name', tenantry.tag(tenant), true)
                    || set_config('tenantry.bound', tenant, true);
            RETURN;
        END IF;
    END IF;
    PERFORM tenantry.bind(tenant);
END
$$;
