-- Whether a tenant ($1) once left a database ($2) and has lived in dedicated ones only since, in $3 at last: then its ids
-- are those that were given out there, and those of blocks that were its own.
WITH flip AS (
    SELECT source, target, plan ->> 'target_kind' AS kind, flipped_at AS at FROM tenantry.move
    WHERE tenant = $1 AND flipped_at IS NOT NULL AND state <> 'rolled_back')
SELECT coalesce((SELECT target = $3 FROM flip ORDER BY at DESC LIMIT 1)
                AND (SELECT bool_and(kind = 'dedicated') FROM flip
                     WHERE at >= (SELECT max(at) FROM flip WHERE source = $2)), false) AS so
