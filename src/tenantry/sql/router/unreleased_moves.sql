-- In the control database: the tenants of whom database $1 may hold rows although they live elsewhere. A move leaves them
-- until it is released, rolled back or aborted, and where it could not clean up. One that has ended since $2 may have
-- deleted them after the caller's snapshot.
SELECT DISTINCT m.tenant
FROM tenantry.move AS m
WHERE $1 IN (m.source, m.target)
  AND (m.state NOT IN ('released', 'rolled_back', 'aborted')
       OR m.ended_at >= $2
       OR EXISTS (SELECT FROM tenantry.move_object AS o
                  WHERE o.move = m.id AND o.database = $1 AND o.kind = 'rows' AND o.removed_at IS NULL))
ORDER BY m.tenant
