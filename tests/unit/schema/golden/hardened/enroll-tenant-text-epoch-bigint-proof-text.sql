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
        normal := tenant::uuid::text;
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
