-- Functions of every data database, whatever its form. Applied again at every `tenantry init`.
--
-- Filled in before they are applied: :'database' (this database's name in the directory), :'setting' (the setting
-- that policies read), :'id_type' and :type (the type of tenant ids, as a word and as SQL).

-- The advisory lock of a tenant: shared by every transaction that works for it, exclusive for the fence. The
-- two-integer form keeps clear of applications, which mostly use one bigint. Two tenants whose hashes are
-- equal share a lock: while one is fenced, the other waits those milliseconds too.
CREATE OR REPLACE FUNCTION tenantry.lock_space() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 1415071060  -- 'TNNT'
$$;

CREATE OR REPLACE FUNCTION tenantry.lock_key(tenant text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.hashtext(tenant)
$$;

-- What a scope puts into application_name: the id, or a hash of one that would not fit. The planner puts this
-- expression in place of the call, and for ids of another type than text it leaves the first branch only.
CREATE OR REPLACE FUNCTION tenantry.tag(tenant text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN :'id_type' <> 'text' THEN 'tenantry:' || tenant
                WHEN octet_length(tenant) <= 50 AND tenant COLLATE "C" !~ '[^ -~]' THEN 'tenantry:' || tenant
                ELSE 'tenantry:#' || md5(convert_to(tenant, 'UTF8')) END
$$;

-- The tenant of this transaction, for the product's own SQL; NULL: none.
CREATE OR REPLACE FUNCTION tenantry.current_tenant() RETURNS :type
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT nullif(pg_catalog.current_setting(:'setting', true), '')::pg_catalog.:type
$$;

-- HMAC-SHA256 of a message under this database's key, in hexadecimal. The functions of the hot path have the same
-- expression inline, for speed.
CREATE OR REPLACE FUNCTION tenantry.proof_of(message text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT encode(sha256(s.outer_pad || sha256(s.inner_pad || convert_to(message, 'UTF8'))), 'hex')
    FROM tenantry.secret AS s
$$;

-- Says why a tenant is not let in. Reads its placement again: by now the answer can only be newer.
CREATE OR REPLACE FUNCTION tenantry.refuse(tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    place tenantry.placement;
BEGIN
    SELECT * INTO place FROM tenantry.placement AS p WHERE p.tenant = tenant;
    IF place.database = :'database' AND place.suspended THEN
        RAISE EXCEPTION 'tenant % is suspended', tenant USING ERRCODE = 'TN003';
    END IF;
    RAISE EXCEPTION 'tenant % does not live in database %', tenant, :'database'
        USING ERRCODE = 'TN001',
              DETAIL = json_build_object('home', place.database, 'epoch', place.epoch)::text;
END
$$;

-- Writes a new tenant's placement. Routers call it at sign-up, as the application role, so whatever runs as that
-- role can call it too. It may therefore do little: the first placement of a tenant that this database does not
-- know, and nothing else. A tenant that has left, or that a move is about to bring, is known. A false row harms
-- nobody: no router is sent here for it, and a move that brings the tenant, at a later epoch, overwrites it.
--
-- A scope can't call it: it holds its tenant's lock, which nothing gives back before the transaction ends. Ids are
-- in their normal form, so that a tenant has one row. In hardened mode it wants proof that it is the router who calls.
CREATE OR REPLACE FUNCTION tenantry.enroll(tenant text, epoch bigint, proof text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    here tenantry.database_identity;
    normal text;
BEGIN
    SELECT * INTO STRICT here FROM tenantry.database_identity AS i;
    IF here.hardened
       AND proof IS DISTINCT FROM tenantry.proof_of(format('enroll %s %s %s', pg_backend_pid(), epoch, tenant))
       AND proof IS DISTINCT FROM tenantry.proof_of(format('enroll 0 %s %s', epoch, tenant)) THEN
        RAISE EXCEPTION 'enroll needs the router''s proof' USING ERRCODE = 'TN004';
    END IF;
    IF EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = pg_backend_pid() AND l.locktype = 'advisory'
               AND l.classid = tenantry.lock_space()::oid AND l.objsubid = 2) THEN
        RAISE EXCEPTION 'a scope can''t enroll tenants' USING ERRCODE = 'TN004';
    END IF;
    IF here.tenant IS NOT NULL AND here.tenant IS DISTINCT FROM tenant THEN
        RAISE EXCEPTION 'database % serves one tenant only, and it is another', here.name
            USING ERRCODE = 'TN001', DETAIL = '{"home": null, "epoch": null}';
    END IF;
    IF EXISTS (SELECT FROM tenantry.placement AS p WHERE p.tenant = tenant) THEN
        RETURN;
    END IF;
    BEGIN
        normal := tenant:::type::text;
    EXCEPTION WHEN data_exception THEN
        normal := NULL;
    END;
    IF normal IS DISTINCT FROM tenant OR tenant IS NULL OR tenant = '' OR octet_length(tenant) > 255 THEN
        RAISE EXCEPTION 'not the normal form of a tenant id of type %', here.id_type
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF epoch IS DISTINCT FROM 1 THEN
        RAISE EXCEPTION 'only the first placement of a tenant is enrolled, with epoch 1, not %', epoch
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'A tenant that was removed is restored by an operator; any other is brought by a move.';
    END IF;
    INSERT INTO tenantry.placement AS p (tenant, database, epoch) VALUES (tenant, here.name, 1)
        ON CONFLICT DO NOTHING;
END
$$;

-- A placement never goes backwards. The placement row travels by replication too, and may arrive after its
-- successor was written: then it is skipped. Anybody else who tries is told.
CREATE OR REPLACE FUNCTION tenantry.keep_newest_placement() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.epoch >= OLD.epoch THEN
        RETURN NEW;
    END IF;
    IF current_setting('session_replication_role') = 'replica' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'placement of tenant % is at epoch % already', OLD.tenant, OLD.epoch
        USING HINT = 'A placement only changes forwards: read it again.';
END
$$;

-- What the application role needs, and nothing more: it can't read who else lives here.
CREATE OR REPLACE FUNCTION tenantry.grant_application(role text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA tenantry TO %I', role);
    EXECUTE format('GRANT EXECUTE ON PROCEDURE tenantry.enter(text), tenantry.enter(text, text), '
                   'tenantry.enter(text, text, integer) TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION tenantry.bind(text), tenantry.bind(text, text), '
                   'tenantry.admit(), tenantry.admitted(), tenantry.admitted_tenant(), tenantry.current_tenant(), '
                   'tenantry.enroll(text, bigint, text) TO %I', role);
END
$$;
