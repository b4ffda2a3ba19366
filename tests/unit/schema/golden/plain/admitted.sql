-- SQL that the planner puts in place of the call: the mark is compared without calling any function of ours.
CREATE OR REPLACE FUNCTION tenantry.admitted() RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT CASE
        WHEN nullif(pg_catalog.current_setting('tenantry.bound', true), '') OPERATOR(pg_catalog.=)
             pg_catalog.current_setting('app.current_tenant', true)
        THEN true ELSE tenantry.admit() END
$$;
