-- Gives a database of many tenants the limits ($3, $4) of a plan ($2) that a tenant ($1) brings; returns how many.
-- Only where the plan means nothing to anybody yet: no limit of it is there, and nobody else has it.
WITH put AS (
    INSERT INTO tenantry.quota_limit (plan, resource, max_rows)
    SELECT $2::text, w.resource, w.max_rows FROM unnest($3::text[], $4::bigint[]) AS w(resource, max_rows)
    WHERE $2 <> 'default'
      AND NOT EXISTS (SELECT FROM tenantry.quota_limit AS l WHERE l.plan = $2)
      AND NOT EXISTS (SELECT FROM tenantry.quota_plan AS p WHERE p.plan = $2 AND p.tenant <> $1)
    ON CONFLICT DO NOTHING RETURNING 1)
SELECT count(*) FROM put
