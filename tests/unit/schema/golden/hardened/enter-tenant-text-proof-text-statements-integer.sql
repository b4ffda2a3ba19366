-- bind as a procedure, for the hot path: lock, then proof and check in one statement. Whatever is uncommon is left to
-- bind.
CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text, proof text, statements integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
    -- Nor may one that has had temporary objects be used again: what PL/pgSQL has compiled beside them, it keeps.
    IF pg_my_temp_schema() <> 0 THEN
        RAISE EXCEPTION 'this session has had temporary objects' USING ERRCODE = 'TN005';
    END IF;
    IF pg_try_advisory_xact_lock_shared(1415071060, hashtext(tenant))
       AND current_setting('transaction_isolation') = 'read committed' THEN
        SELECT set_config('tenantry.proof', encode(sha256(s.outer_pad || sha256(s.inner_pad || convert_to(
                   'scope ' || pg_backend_pid() || ' ' || extract(epoch FROM now()) || ' ' || tenant, 'UTF8'))), 'hex'),
                   true) || set_config('application_name', tenantry.tag(tenant), true) INTO done
            FROM tenantry.secret AS s, tenantry.placement AS p
            WHERE (proof = encode(sha256(s.outer_pad || sha256(s.inner_pad || convert_to(
                       'bind ' || pg_backend_pid() || ' ' || tenant, 'UTF8'))), 'hex')
                   OR proof = encode(sha256(s.outer_pad || sha256(s.inner_pad || convert_to(
                       'bind 0 ' || tenant, 'UTF8'))), 'hex'))
              AND p.tenant = tenant AND p.database = 'shared' AND NOT p.suspended;
        IF FOUND THEN
            done := set_config('app.current_tenant', tenant, true);
            RETURN;
        END IF;
    END IF;
    PERFORM tenantry.bind(tenant, proof);
END
$$;
