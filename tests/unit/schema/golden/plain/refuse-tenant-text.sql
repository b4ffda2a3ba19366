-- Says why a tenant is not let in. Reads its placement again: by now the answer can only be newer.
CREATE OR REPLACE FUNCTION tenantry.refuse(tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    place tenantry.placement;
BEGIN
    SELECT * INTO place FROM tenantry.placement AS p WHERE p.tenant = tenant;
    IF place.database = 'shared' AND place.suspended THEN
        RAISE EXCEPTION 'tenant % is suspended', tenant USING ERRCODE = 'TN003';
    END IF;
    RAISE EXCEPTION 'tenant % does not live in database %', tenant, 'shared'
        USING ERRCODE = 'TN001',
              DETAIL = json_build_object('home', place.database, 'epoch', place.epoch)::text;
END
$$;
