-- Counts one batch of use, once: a batch whose number the reporter has already had changes nothing.
--
-- One statement, so it is atomic and takes one flight, behind any pooler. A repetition that overtakes its first
-- copy waits for the reporter's row, then finds the number taken. Rows come sorted by key, so that two routers
-- that count the same tenants can't deadlock.
-- $1 reporter, $2 batch, $3 started, $4 reported until, $5 stopped or NULL, $6–$15 use, $16–$17 hours reported
WITH fresh AS (
    INSERT INTO tenantry.reporter AS r (id, kind, batch, started_at, reported_until, stopped_at)
    VALUES ($1, 'router', $2, $3, $4, $5)
    ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, stopped_at = excluded.stopped_at,
        reported_until = greatest(r.reported_until, excluded.reported_until)
    WHERE r.batch < excluded.batch
    RETURNING id
), used AS (
    INSERT INTO tenantry.usage AS u (hour, database, tenant, busy_seconds, held_seconds, waited_seconds,
                                     commits, rollbacks, errors, statements)
    SELECT batch.* FROM fresh, unnest($6::timestamptz[], $7::text[], $8::text[], $9::float8[], $10::float8[],
                                      $11::float8[], $12::bigint[], $13::bigint[], $14::bigint[],
                                      $15::bigint[]) AS batch
    ON CONFLICT (hour, database, tenant) DO UPDATE SET
        busy_seconds = u.busy_seconds + excluded.busy_seconds,
        held_seconds = u.held_seconds + excluded.held_seconds,
        waited_seconds = u.waited_seconds + excluded.waited_seconds,
        commits = u.commits + excluded.commits,
        rollbacks = u.rollbacks + excluded.rollbacks,
        errors = u.errors + excluded.errors,
        statements = u.statements + excluded.statements
), present AS (
    INSERT INTO tenantry.reported AS p (hour, reporter, seconds)
    SELECT covered.hour, fresh.id, covered.seconds
    FROM fresh, unnest($16::timestamptz[], $17::float8[]) AS covered (hour, seconds)
    ON CONFLICT (hour, reporter) DO UPDATE SET seconds = p.seconds + excluded.seconds
)
SELECT EXISTS (SELECT FROM fresh) AS counted
