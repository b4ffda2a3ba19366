-- Go on with a run ($1) on databases in their turns ($2), which come behind what it has done. $3: these are all that are
-- left, and others that it has not done are no more.
WITH run AS (
    UPDATE tenantry.migrate_run SET state = 'running', changed_at = now() WHERE id = $1 RETURNING id
), before AS (
    SELECT coalesce(max(position) + 1, 0) AS taken FROM tenantry.migrate_database WHERE run = $1 AND state = 'done'
), gone AS (
    DELETE FROM tenantry.migrate_database
    WHERE $3::boolean AND run = $1 AND state <> 'done' AND database <> ALL ($2::text[])
)
INSERT INTO tenantry.migrate_database AS d (run, database, position)
SELECT run.id, name, before.taken + position - 1
FROM run, before, unnest($2::text[]) WITH ORDINALITY AS t (name, position)
ON CONFLICT (run, database) DO UPDATE SET position = excluded.position
