-- A tenant's own metering, day by day, for its bill. Runnable in psql, again and again; wants `tenantry init` first.
--
-- Where this database is the control database too, the view reads the ledger itself. Elsewhere it reads a copy,
-- which `tenantry.kits.copy_usage` brings. Either way a row is seen only by the tenant that was bound.

CREATE TABLE IF NOT EXISTS tenantry.usage_copy (
    tenant          text NOT NULL,
    day             date NOT NULL,                    -- UTC
    database        text NOT NULL,
    busy_seconds    double precision NOT NULL,
    held_seconds    double precision NOT NULL,
    waited_seconds  double precision NOT NULL,
    commits         bigint NOT NULL,
    rollbacks       bigint NOT NULL,
    errors          bigint NOT NULL,
    statements      bigint NOT NULL,
    as_of           timestamptz NOT NULL,
    PRIMARY KEY (tenant, day, database)
);
COMMENT ON TABLE tenantry.usage_copy IS 'Days of the ledger, for the tenants that live here';
ALTER TABLE tenantry.usage_copy ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own ON tenantry.usage_copy;
CREATE POLICY own ON tenantry.usage_copy FOR SELECT
    USING (tenant = (SELECT tenantry.admitted_tenant()::text));

-- The ledger has no policies: the routers write it for everybody. So this view is the policy: it runs as its owner,
-- and behind its barrier nothing but the tenant's rows is seen.
DO $do$
BEGIN
    DROP VIEW IF EXISTS tenantry.my_usage;
    IF to_regclass('tenantry.usage') IS NOT NULL AND has_table_privilege('tenantry.usage', 'SELECT')
       AND has_table_privilege('tenantry.usage_day', 'SELECT') THEN
        CREATE VIEW tenantry.my_usage WITH (security_barrier = true) AS
            SELECT day, database, sum(busy_seconds) AS busy_seconds, sum(held_seconds) AS held_seconds,
                   sum(waited_seconds) AS waited_seconds, sum(commits)::bigint AS commits,
                   sum(rollbacks)::bigint AS rollbacks, sum(errors)::bigint AS errors,
                   sum(statements)::bigint AS statements, statement_timestamp() AS as_of
            FROM (SELECT (u.hour AT TIME ZONE 'UTC')::date AS day, u.database, u.busy_seconds, u.held_seconds,
                         u.waited_seconds, u.commits, u.rollbacks, u.errors, u.statements
                  FROM tenantry.usage AS u WHERE u.tenant = (SELECT tenantry.admitted_tenant()::text)
                  UNION ALL
                  SELECT d.day, d.database, d.busy_seconds, d.held_seconds, d.waited_seconds, d.commits, d.rollbacks,
                         d.errors, d.statements
                  FROM tenantry.usage_day AS d
                  WHERE d.source = 'measured' AND d.tenant = (SELECT tenantry.admitted_tenant()::text)) AS used
            GROUP BY day, database;
    ELSE
        CREATE VIEW tenantry.my_usage WITH (security_barrier = true, security_invoker = true) AS
            SELECT day, database, busy_seconds, held_seconds, waited_seconds, commits, rollbacks, errors,
                   statements, as_of
            FROM tenantry.usage_copy;
    END IF;
END
$do$;
COMMENT ON VIEW tenantry.my_usage IS 'What the bound tenant used, per day (UTC) and database';
REVOKE ALL ON tenantry.usage_copy, tenantry.my_usage FROM PUBLIC;

-- What the application role gets of it.
CREATE OR REPLACE FUNCTION tenantry.usage_grant(role text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    EXECUTE format('REVOKE ALL ON tenantry.usage_copy, tenantry.my_usage FROM %I', role);
    EXECUTE format('REVOKE ALL ON FUNCTION tenantry.usage_grant(text) FROM %I', role);
    EXECUTE format('GRANT SELECT ON tenantry.usage_copy, tenantry.my_usage TO %I', role);
END
$fn$;
REVOKE ALL ON FUNCTION tenantry.usage_grant(text) FROM PUBLIC;
