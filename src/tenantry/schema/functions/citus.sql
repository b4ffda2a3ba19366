-- What differs from plain.sql where Citus is: SET LOCAL is what Citus carries to its workers; set_config is not. The
-- guard of a distributed table reads the mark there, so the mark travels as the setting does.
-- :setting is the setting's name as SQL has it.
--
-- Citus carries a SET LOCAL only where citus.propagate_set_commands says so, which by default it does not. It is these
-- functions that say so, for their own statements: psql and pools need no setting, and a SET LOCAL of the application's,
-- a statement_timeout for one, stays what it is by default, the coordinator's.

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
    IF database IS DISTINCT FROM :'database' OR suspended THEN
        PERFORM tenantry.refuse(tenant);
    END IF;
    EXECUTE format('SET LOCAL :setting = %L', tenant);
    EXECUTE format('SET LOCAL tenantry.bound = %L', tenant);
    done := set_config('application_name', tenantry.tag(tenant), true);
END
$$;

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
                   WHERE p.tenant = tenant AND p.database = :'database' AND NOT p.suspended) THEN
            EXECUTE format('SET LOCAL :setting = %L', tenant);
            EXECUTE format('SET LOCAL tenantry.bound = %L', tenant);
            done := set_config('application_name', tenantry.tag(tenant), true);
            RETURN;
        END IF;
    END IF;
    PERFORM tenantry.bind(tenant);
END
$$;
