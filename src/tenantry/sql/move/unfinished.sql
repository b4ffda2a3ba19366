-- $1: a tenant. Its move that is not finished, one that could still be rolled back included. In the words of the
-- index `move_unfinished`, so that it serves.
SELECT id, state FROM tenantry.move
WHERE tenant = $1 AND state NOT IN ('released', 'rolled_back', 'aborted')
