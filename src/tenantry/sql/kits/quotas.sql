-- Limits of plans, kept by the database at insert. Runnable in psql, again and again; wants `tenantry init` first.
--
-- What is used is counted from the rows themselves, under a lock of tenant and resource: nothing has to be kept
-- in step with them, so deletes, moves, restores and bulk loads can't make it wrong. The application role reads
-- what concerns its tenant and writes none of this: row-level security denies it even what a careless
-- GRANT … ON ALL TABLES gives.

CREATE TABLE IF NOT EXISTS tenantry.quota_limit (
    plan       text NOT NULL CHECK (plan <> ''),
    resource   text NOT NULL CHECK (resource <> ''),
    max_rows   bigint CHECK (max_rows >= 0),          -- NULL: no limit
    PRIMARY KEY (plan, resource)
);
COMMENT ON TABLE tenantry.quota_limit IS 'What each plan allows; the plan "default" holds for tenants without one';

CREATE TABLE IF NOT EXISTS tenantry.quota_plan (
    tenant     text PRIMARY KEY CHECK (tenant <> ''),
    plan       text NOT NULL CHECK (plan <> '')
);
COMMENT ON TABLE tenantry.quota_plan IS 'The plan of each tenant in this database';

CREATE TABLE IF NOT EXISTS tenantry.quota_exception (
    tenant     text NOT NULL CHECK (tenant <> ''),
    resource   text NOT NULL CHECK (resource <> ''),
    max_rows   bigint CHECK (max_rows >= 0),          -- NULL: no limit
    PRIMARY KEY (tenant, resource)
);
COMMENT ON TABLE tenantry.quota_exception IS 'Limits of single tenants; they go before their plan''s';

CREATE TABLE IF NOT EXISTS tenantry.quota_resource (
    resource      text PRIMARY KEY CHECK (resource <> ''),
    relation      regclass NOT NULL UNIQUE,
    tenant_column name NOT NULL
);
COMMENT ON TABLE tenantry.quota_resource IS 'The tables whose rows are counted';

-- One row for each tenant and resource, changed by every insert: that lets them through one after the other, and
-- under REPEATABLE READ and SERIALIZABLE, whose count would come from an old snapshot, it gives 40001.
CREATE TABLE IF NOT EXISTS tenantry.quota_turn (
    tenant     text NOT NULL,
    resource   text NOT NULL,
    turns      bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant, resource)
) WITH (fillfactor = 20);

ALTER TABLE tenantry.quota_limit ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenantry.quota_plan ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenantry.quota_exception ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenantry.quota_resource ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenantry.quota_turn ENABLE ROW LEVEL SECURITY;

-- admitted_tenant() is the tenant that the router bound: proven in hardened mode, checked in the other.
DROP POLICY IF EXISTS own ON tenantry.quota_plan;
CREATE POLICY own ON tenantry.quota_plan FOR SELECT
    USING (tenant = (SELECT tenantry.admitted_tenant()::text));
DROP POLICY IF EXISTS own ON tenantry.quota_exception;
CREATE POLICY own ON tenantry.quota_exception FOR SELECT
    USING (tenant = (SELECT tenantry.admitted_tenant()::text));
DROP POLICY IF EXISTS own ON tenantry.quota_limit;
CREATE POLICY own ON tenantry.quota_limit FOR SELECT
    USING (plan = (SELECT coalesce((SELECT p.plan FROM tenantry.quota_plan AS p
                                    WHERE p.tenant = (SELECT tenantry.admitted_tenant()::text)), 'default'))
           AND (SELECT tenantry.admitted_tenant()::text) IS NOT NULL);

-- The tenant's own limit, else its plan's, else that of the plan "default"; NULL: there is none.
CREATE OR REPLACE FUNCTION tenantry.quota_of(tenant text, resource text) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    found_rows bigint;
BEGIN
    SELECT e.max_rows INTO found_rows FROM tenantry.quota_exception AS e
        WHERE e.tenant = tenant AND e.resource = resource;
    IF NOT FOUND THEN
        SELECT l.max_rows INTO found_rows FROM tenantry.quota_limit AS l
            WHERE l.resource = resource
              AND l.plan IN ('default', (SELECT p.plan FROM tenantry.quota_plan AS p WHERE p.tenant = tenant))
            ORDER BY l.plan = 'default', l.plan LIMIT 1;
    END IF;
    RETURN found_rows;
END
$fn$;

-- Rows of a tenant in a resource's table; no more are looked at than `enough`.
CREATE OR REPLACE FUNCTION tenantry.quota_used(tenant text, resource text, enough bigint DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    statement text;
    used bigint;
BEGIN
    -- Integers are compared as bigint and texts as text, so that no id is cut or out of range, and the index
    -- that leads with the column serves.
    SELECT format('SELECT count(*) FROM (SELECT FROM %s WHERE %I = $1::%s LIMIT $2) AS counted',
                  q.relation, q.tenant_column,
                  CASE t.typcategory WHEN 'S' THEN 'text' WHEN 'N' THEN 'bigint'
                       ELSE format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) END)
        INTO STRICT statement
        FROM tenantry.quota_resource AS q
        JOIN pg_attribute AS a ON a.attrelid = q.relation AND a.attname = q.tenant_column AND NOT a.attisdropped
        JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE q.resource = resource;
    EXECUTE statement INTO used USING tenant, enough;
    RETURN used;
END
$fn$;

-- Refuses what would be too much. After the insert, so that what row-level security refuses is refused by it, and
-- nobody learns another tenant's limits. Lock and count are separate statements: the count then sees what was
-- committed before the lock was given.
CREATE OR REPLACE FUNCTION tenantry.quota_hold(tenant text, resource text, added bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    allowed bigint;
BEGIN
    IF tenantry.quota_of(tenant, resource) IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO tenantry.quota_turn AS t (tenant, resource) VALUES (tenant, resource)
        ON CONFLICT ON CONSTRAINT quota_turn_pkey DO UPDATE SET turns = t.turns + 1;
    allowed := tenantry.quota_of(tenant, resource);
    IF tenantry.quota_used(tenant, resource, least(allowed, 9223372036854775806) + 1) > allowed THEN
        RAISE EXCEPTION 'the limit of % % is reached', allowed, resource
            USING ERRCODE = 'TN010',
                  DETAIL = json_build_object('resource', resource, 'limit', allowed,
                      'used', tenantry.quota_used(tenant, resource) - added)::text,
                  HINT = 'Delete what is not needed, or change the plan.';
    END IF;
END
$fn$;

CREATE OR REPLACE FUNCTION tenantry.quota_inserted() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    one record;
BEGIN
    -- In order, so that two bulk loads don't wait for each other in a circle.
    FOR one IN EXECUTE format('SELECT %I::text AS tenant, count(*) AS added FROM added GROUP BY 1 ORDER BY 1',
                              TG_ARGV[1]) LOOP
        PERFORM tenantry.quota_hold(one.tenant, TG_ARGV[0], one.added);
    END LOOP;
    RETURN NULL;
END
$fn$;

-- A row given to another tenant (by an operator: policies let nobody else do it) takes a place there.
CREATE OR REPLACE FUNCTION tenantry.quota_given() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    PERFORM tenantry.quota_hold(to_jsonb(NEW) ->> TG_ARGV[1], TG_ARGV[0], 1);
    RETURN NULL;
END
$fn$;

-- Counts a table's rows from now on. For a partitioned table, run it again after adding partitions.
CREATE OR REPLACE FUNCTION tenantry.quota_on(relation regclass, resource text DEFAULT NULL,
                                             tenant_column name DEFAULT 'tenant_id')
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    called CONSTANT text := coalesce(resource, (SELECT c.relname FROM pg_class AS c WHERE c.oid = relation));
    part regclass;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
                   WHERE c.oid = relation AND c.relkind IN ('r', 'p') AND a.attname = tenant_column
                     AND NOT a.attisdropped) THEN
        RAISE EXCEPTION '% is no table with a column %', relation, tenant_column
            USING HINT = 'Name the tenant column: SELECT tenantry.quota_on(table, resource, column).';
    END IF;
    DELETE FROM tenantry.quota_resource AS q WHERE q.relation = relation;
    INSERT INTO tenantry.quota_resource VALUES (called, relation, tenant_column);
    EXECUTE format('DROP TRIGGER IF EXISTS tenantry_quota_given ON %s', relation);
    EXECUTE format('CREATE TRIGGER tenantry_quota_given AFTER UPDATE OF %1$I ON %2$s FOR EACH ROW '
                   'WHEN (OLD.%1$I IS DISTINCT FROM NEW.%1$I) EXECUTE FUNCTION tenantry.quota_given(%3$L, %1$L)',
                   tenant_column, relation, called);
    FOR part IN SELECT p.relid FROM pg_partition_tree(relation) AS p UNION SELECT relation LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS tenantry_quota ON %s', part);
        EXECUTE format('CREATE TRIGGER tenantry_quota AFTER INSERT ON %s REFERENCING NEW TABLE AS added '
                       'FOR EACH STATEMENT EXECUTE FUNCTION tenantry.quota_inserted(%L, %L)',
                       part, called, tenant_column);
    END LOOP;
END
$fn$;

CREATE OR REPLACE FUNCTION tenantry.quota_off(relation regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    part regclass;
BEGIN
    EXECUTE format('DROP TRIGGER IF EXISTS tenantry_quota_given ON %s', relation);
    FOR part IN SELECT p.relid FROM pg_partition_tree(relation) AS p UNION SELECT relation LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS tenantry_quota ON %s', part);
    END LOOP;
    DELETE FROM tenantry.quota_resource AS q WHERE q.relation = relation;
END
$fn$;

-- What the bound tenant may have and has.
CREATE OR REPLACE FUNCTION tenantry.quotas_of_bound_tenant()
RETURNS TABLE (resource text, max_rows bigint, used bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_column
DECLARE
    bound CONSTANT text := tenantry.admitted_tenant()::text;
BEGIN
    IF bound IS NOT NULL THEN
        RETURN QUERY SELECT q.resource, tenantry.quota_of(bound, q.resource),
                            tenantry.quota_used(bound, q.resource)
                     FROM tenantry.quota_resource AS q ORDER BY q.resource;
    END IF;
END
$fn$;
CREATE OR REPLACE VIEW tenantry.my_quotas AS SELECT resource, max_rows, used FROM tenantry.quotas_of_bound_tenant();

REVOKE ALL ON tenantry.quota_limit, tenantry.quota_plan, tenantry.quota_exception, tenantry.quota_resource,
    tenantry.quota_turn, tenantry.my_quotas FROM PUBLIC;
REVOKE ALL ON FUNCTION tenantry.quota_of(text, text), tenantry.quota_used(text, text, bigint),
    tenantry.quota_hold(text, text, bigint), tenantry.quota_inserted(), tenantry.quota_given(),
    tenantry.quota_on(regclass, text, name), tenantry.quota_off(regclass),
    tenantry.quotas_of_bound_tenant() FROM PUBLIC;

-- What the application role gets of it.
CREATE OR REPLACE FUNCTION tenantry.quotas_grant(role text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    EXECUTE format('REVOKE ALL ON tenantry.quota_limit, tenantry.quota_plan, tenantry.quota_exception, '
                   'tenantry.quota_resource, tenantry.quota_turn, tenantry.my_quotas FROM %I', role);
    EXECUTE format('REVOKE ALL ON FUNCTION tenantry.quota_of(text, text), '
                   'tenantry.quota_used(text, text, bigint), tenantry.quota_hold(text, text, bigint), '
                   'tenantry.quota_inserted(), tenantry.quota_given(), tenantry.quota_on(regclass, text, name), '
                   'tenantry.quota_off(regclass), tenantry.quotas_grant(text) FROM %I', role);
    EXECUTE format('GRANT SELECT ON tenantry.quota_limit, tenantry.quota_plan, tenantry.quota_exception, '
                   'tenantry.my_quotas TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION tenantry.quotas_of_bound_tenant() TO %I', role);
END
$fn$;
REVOKE ALL ON FUNCTION tenantry.quotas_grant(text) FROM PUBLIC;
