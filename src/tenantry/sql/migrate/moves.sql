-- The moves from or to some databases ($1: their names) that are not finished.
SELECT id, tenant, source, target, state FROM tenantry.move
WHERE state NOT IN ('released', 'rolled_back', 'aborted') AND (source = ANY ($1::text[]) OR target = ANY ($1::text[]))
ORDER BY created_at
