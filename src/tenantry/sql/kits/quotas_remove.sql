-- Takes the quotas kit away: triggers, functions, and the limits with them.
DO $do$
DECLARE
    counted regclass;
BEGIN
    FOR counted IN SELECT q.relation FROM tenantry.quota_resource AS q JOIN pg_class AS c ON c.oid = q.relation LOOP
        PERFORM tenantry.quota_off(counted);
    END LOOP;
END
$do$;
DROP VIEW tenantry.my_quotas;
DROP FUNCTION tenantry.quotas_grant(text), tenantry.quotas_of_bound_tenant(), tenantry.quota_off(regclass),
    tenantry.quota_on(regclass, text, name), tenantry.quota_given(), tenantry.quota_inserted(),
    tenantry.quota_hold(text, text, bigint), tenantry.quota_used(text, text, bigint),
    tenantry.quota_of(text, text);
DROP TABLE tenantry.quota_limit, tenantry.quota_plan, tenantry.quota_exception, tenantry.quota_resource,
    tenantry.quota_turn;
