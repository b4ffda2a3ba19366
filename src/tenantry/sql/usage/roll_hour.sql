-- Moves the oldest hour before $1 into its day. It is a move, not a sum of what is there, so hours that arrive
-- late are added when they come, and nothing is counted twice however often this runs.
WITH oldest AS (
    SELECT min(hour) AS hour FROM tenantry.usage WHERE hour < $1::timestamptz
), moved AS (
    DELETE FROM tenantry.usage AS u USING oldest WHERE u.hour = oldest.hour RETURNING u.*
), added AS (
    INSERT INTO tenantry.usage_day AS d (day, database, tenant, busy_seconds, held_seconds, waited_seconds, commits,
                                         rollbacks, errors, statements)
    SELECT (hour AT TIME ZONE 'UTC')::date, database, tenant, busy_seconds, held_seconds, waited_seconds, commits,
           rollbacks, errors, statements
    FROM moved ORDER BY database, tenant
    ON CONFLICT (day, database, tenant, source) DO UPDATE SET
        busy_seconds = d.busy_seconds + excluded.busy_seconds,
        held_seconds = d.held_seconds + excluded.held_seconds,
        waited_seconds = d.waited_seconds + excluded.waited_seconds,
        commits = d.commits + excluded.commits,
        rollbacks = d.rollbacks + excluded.rollbacks,
        errors = d.errors + excluded.errors,
        statements = d.statements + excluded.statements
)
SELECT count(*) AS rows FROM moved
