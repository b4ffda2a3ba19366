-- The limits of plans that a tenant ($1) goes by: its plan's, and those of the plan "default".
SELECT plan, resource, max_rows FROM tenantry.quota_limit
WHERE plan IN ('default', (SELECT p.plan FROM tenantry.quota_plan AS p WHERE p.tenant = $1)) ORDER BY 1, 2
