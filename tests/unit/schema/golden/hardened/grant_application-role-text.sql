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
