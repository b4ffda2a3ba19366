CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text, proof text, statements integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET citus.propagate_set_commands = 'local' AS $$
#variable_conflict use_variable
DECLARE
    prepared bigint;
    done text;
BEGIN
    IF pg_advisory_unlock_all() IS NULL THEN END IF;
    -- One look at what an earlier scope may have done to the session's prepared statements. SQL's own PREPARE weighs
    -- so much that nothing that was deallocated makes up for it. Two steps and one aggregate: half the price.
    SELECT sum(CASE WHEN p.from_sql THEN 1000000 ELSE 1 END) INTO prepared FROM pg_prepared_statement() AS p;
    IF prepared >= 1000000 OR statements >= 0 AND coalesce(prepared, 0) <> statements THEN
        RAISE EXCEPTION 'this session holds prepared statements that are not the router''s' USING ERRCODE = 'TN005';
    END IF;
    IF pg_try_advisory_xact_lock_shared(1415071060, hashtext(tenant))
       AND current_setting('transaction_isolation') = 'read committed' THEN
        IF EXISTS (SELECT FROM tenantry.placement AS p
                   WHERE p.tenant = tenant AND p.database = 'shared' AND NOT p.suspended) THEN
            EXECUTE format('SET LOCAL app.current_tenant = %L', tenant);
            EXECUTE format('SET LOCAL tenantry.bound = %L', tenant);
            done := set_config('application_name', tenantry.tag(tenant), true);
            RETURN;
        END IF;
    END IF;
    PERFORM tenantry.bind(tenant);
END
$$;
