-- Moves for the console: unfinished ones first, then the newest. $1: rows at most. Columns as MoveRow's.
SELECT id, tenant, source, target, state, step, error, changed_at,
       state IN ('released', 'rolled_back', 'aborted') AS finished
FROM tenantry.move ORDER BY finished, changed_at DESC LIMIT $1
