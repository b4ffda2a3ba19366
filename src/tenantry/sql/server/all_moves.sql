-- Moves of the tenant $1 (NULL: of all), unfinished ones first, then the newest; $2 at most.
SELECT id, tenant, source, target, state, step, error, created_at, changed_at,
       state IN ('released', 'rolled_back', 'aborted') AS finished, result ->> 'pause_seconds' AS pause
FROM tenantry.move WHERE $1::text IS NULL OR tenant = $1 ORDER BY finished, changed_at DESC LIMIT $2
