-- Who is let in, in hardened mode. Applied again at every `tenantry init`; placeholders as in common.sql. Why lock and
-- check are separate statements stands in plain.sql.
--
-- bind wants a proof that the router made for this tenant and this server process, and the mark that it leaves is a
-- proof too, for this tenant, process and transaction: SQL that is injected into a scope can set what it likes, but
-- it can make neither. HMAC is written out: a call would cost the hot path more than it says.

CREATE OR REPLACE FUNCTION tenantry.bind(tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'this database is hardened: bind needs the router''s proof' USING ERRCODE = 'TN004';
END
$$;

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
    IF database IS DISTINCT FROM :'database' OR suspended THEN
        PERFORM tenantry.refuse(tenant);
    END IF;
    done := set_config(:'setting', tenant, true);  -- an assignment: half the price of PERFORM
    done := set_config('application_name', tenantry.tag(tenant), true);
    done := set_config('tenantry.proof', encode(sha256(outer_pad || sha256(inner_pad || convert_to(
        'scope ' || pg_backend_pid() || ' ' || extract(epoch FROM now()) || ' ' || tenant, 'UTF8'))), 'hex'), true);
END
$$;

CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenantry.bind(tenant);
END
$$;

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
              AND p.tenant = tenant AND p.database = :'database' AND NOT p.suspended;
        IF FOUND THEN
            done := set_config(:'setting', tenant, true);
            RETURN;
        END IF;
    END IF;
    PERFORM tenantry.bind(tenant, proof);
END
$$;

-- For routers that don't count their statements.
CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text, proof text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_advisory_unlock_all() IS NULL THEN END IF;
    PERFORM tenantry.bind(tenant, proof);
END
$$;

-- The tenant, if the mark is the one that bind has left for it in this transaction. NULL: no tenant is set.
CREATE OR REPLACE FUNCTION tenantry.admitted_tenant() RETURNS :type
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    tenant CONSTANT text := current_setting(:'setting', true);
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
    RETURN tenant:::type;
END
$$;

-- The same as yes or no; no: no tenant is set.
CREATE OR REPLACE FUNCTION tenantry.admit() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN tenantry.admitted_tenant() IS NOT NULL;
END
$$;

CREATE OR REPLACE FUNCTION tenantry.admitted() RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT tenantry.admit()
$$;
