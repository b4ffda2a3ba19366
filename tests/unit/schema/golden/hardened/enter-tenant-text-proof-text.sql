-- bind as a procedure, for the hot path: lock, then proof and check in one statement. Whatever is uncommon is left to
-- bind.
CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text, proof text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    done text;
BEGIN
    IF pg_advisory_unlock_all() IS NULL THEN END IF;
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
