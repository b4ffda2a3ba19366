-- Makes the limits of plans ($1) what they are elsewhere ($2 to $4); returns how many were not. Other plans stay.
WITH wanted AS (SELECT * FROM unnest($2::text[], $3::text[], $4::bigint[]) AS w(plan, resource, max_rows)),
gone AS (
    DELETE FROM tenantry.quota_limit AS l
    WHERE l.plan = ANY ($1::text[])
      AND NOT EXISTS (SELECT FROM wanted AS w WHERE w.plan = l.plan AND w.resource = l.resource)
    RETURNING 1),
put AS (
    INSERT INTO tenantry.quota_limit AS l (plan, resource, max_rows) SELECT plan, resource, max_rows FROM wanted
    ON CONFLICT (plan, resource) DO UPDATE SET max_rows = excluded.max_rows
    WHERE l.max_rows IS DISTINCT FROM excluded.max_rows
    RETURNING 1)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM put)
