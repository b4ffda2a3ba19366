-- Who is let in, in the plain form. Applied again at every `tenantry init`; placeholders as in common.sql.
--
-- The lock and the check are separate statements of a VOLATILE function on purpose: under READ COMMITTED each
-- takes a snapshot of its own, so a check that comes after the lock sees whatever was committed before the
-- lock was given. In one statement, or in a STABLE function, the check would answer from a snapshot older
-- than the flip, and a write would land in the old home. Under the higher levels the snapshot is older by
-- nature, so the row is read FOR SHARE: a flip in between gives 40001. (A READ ONLY transaction can't lock
-- rows, and can't write either.) The lock is tried, never waited for: the attempt fails as soon as the fence
-- asks for the lock, which keeps newcomers off.
--
-- What bind has checked stays true to the end of its transaction: the lock is held, so the tenant can't have
-- left. So bind leaves the tenant as a mark, and the policies repeat the check only where it is not the tenant
-- that is set: in psql, in scripts, after the application has set another one. A statement costs a third less
-- at the server for it. The mark is as local as the lock: COMMIT, ROLLBACK and ROLLBACK TO SAVEPOINT take both.
-- Code that means to can set it, as it can set the tenant: against that there is hardened mode.

-- Opens a scope for a tenant: the lock, the check, the setting.
CREATE OR REPLACE FUNCTION tenantry.bind(tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
    done := set_config(:'setting', tenant, true);  -- an assignment: half the price of PERFORM
    done := set_config('application_name', tenantry.tag(tenant), true);
    done := set_config('tenantry.bound', tenant, true);
END
$$;

-- With a proof, which the plain form does not need.
CREATE OR REPLACE FUNCTION tenantry.bind(tenant text, proof text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenantry.bind(tenant);
END
$$;

-- bind as a procedure, for the hot path: CALL costs the server half of what SELECT does. A scope begins
-- without session locks, and giving them back costs less here than as a statement of the reset. As few steps
-- as the common case needs: look, lock, then check. Whatever is uncommon is left to bind.
--
-- statements: how many prepared statements the router's driver has on the session; -1: any number. A scope could have
-- deallocated one and prepared its own under the name, and the next tenant's query would run that text: a session
-- that is not as the router left it is refused.
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
    IF pg_try_advisory_xact_lock_shared(1415071060, hashtext(tenant))
       AND current_setting('transaction_isolation') = 'read committed' THEN
        IF EXISTS (SELECT FROM tenantry.placement AS p
                   WHERE p.tenant = tenant AND p.database = :'database' AND NOT p.suspended) THEN
            done := set_config(:'setting', tenant, true);
            done := set_config('application_name', tenantry.tag(tenant), true)
                    || set_config('tenantry.bound', tenant, true);
            RETURN;
        END IF;
    END IF;
    PERFORM tenantry.bind(tenant);
END
$$;

-- For routers that don't count their statements.
CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_advisory_unlock_all() IS NULL THEN END IF;
    PERFORM tenantry.bind(tenant);
END
$$;

CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text, proof text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_advisory_unlock_all() IS NULL THEN END IF;
    PERFORM tenantry.bind(tenant);
END
$$;

-- What bind checks, for a transaction that set the tenant itself. NULL: no tenant is set. Raises as bind does.
CREATE OR REPLACE FUNCTION tenantry.admitted_tenant() RETURNS :type
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    tenant CONSTANT text := current_setting(:'setting', true);
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
    IF database IS DISTINCT FROM :'database' OR suspended THEN
        PERFORM tenantry.refuse(tenant);
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

-- SQL that the planner puts in place of the call: the mark is compared without calling any function of ours.
CREATE OR REPLACE FUNCTION tenantry.admitted() RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT CASE
        WHEN nullif(pg_catalog.current_setting('tenantry.bound', true), '') OPERATOR(pg_catalog.=)
             pg_catalog.current_setting(:'setting', true)
        THEN true ELSE tenantry.admit() END
$$;
