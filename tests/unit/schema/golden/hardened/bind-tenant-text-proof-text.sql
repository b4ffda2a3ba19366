-- Opens a scope for a tenant: the proof, the lock, the check, the setting, the mark. Process 0: behind a pooler.
CREATE OR REPLACE FUNCTION tenantry.bind(tenant text, proof text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    database text;
    suspended boolean;
    done text;
    inner_pad bytea;
    outer_pad bytea;
BEGIN
    SELECT s.inner_pad, s.outer_pad INTO inner_pad, outer_pad FROM tenantry.secret AS s;
    IF proof IS DISTINCT FROM encode(sha256(outer_pad || sha256(inner_pad || convert_to(
           'bind ' || pg_backend_pid() || ' ' || tenant, 'UTF8'))), 'hex')
       AND proof IS DISTINCT FROM encode(sha256(outer_pad || sha256(inner_pad || convert_to(
           'bind 0 ' || tenant, 'UTF8'))), 'hex') THEN
        RAISE EXCEPTION 'bind needs the router''s proof for this tenant' USING ERRCODE = 'TN004';
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
    done := set_config('app.current_tenant', tenant, true);  -- an assignment: half the price of PERFORM
    done := set_config('application_name', tenantry.tag(tenant), true);
    done := set_config('tenantry.proof', encode(sha256(outer_pad || sha256(inner_pad || convert_to(
        'scope ' || pg_backend_pid() || ' ' || extract(epoch FROM now()) || ' ' || tenant, 'UTF8'))), 'hex'), true);
END
$$;
