-- The move $1, without its plan, which only the release that made it may be able to read.
SELECT id, tenant, source, target, state, step, error, created_at, changed_at, flipped_at, ended_at, result,
       plan ->> 'mechanism' AS mechanism, state IN ('released', 'rolled_back', 'aborted') AS finished
FROM tenantry.move WHERE id = $1
