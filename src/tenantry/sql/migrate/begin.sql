-- A new run ($1) of a command ($2) by somebody ($3) on databases in their turns ($4). $5: these are all, and unfinished
-- runs before it give way.
WITH abandoned AS (
    UPDATE tenantry.migrate_run SET state = 'abandoned', changed_at = now()
    WHERE $5::boolean AND state IN ('running', 'stopped')
), run AS (
    INSERT INTO tenantry.migrate_run (id, command, actor, started_at) VALUES ($1, $2, $3, clock_timestamp()) RETURNING id
)
INSERT INTO tenantry.migrate_database (run, database, position)
SELECT run.id, name, position - 1 FROM run, unnest($4::text[]) WITH ORDINALITY AS t (name, position)
