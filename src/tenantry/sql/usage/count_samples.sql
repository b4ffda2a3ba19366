-- Counts one batch of samples, once: like count.sql.
-- $1 reporter, $2 batch, $3 started, $4 until, $5 stopped or NULL, $6 database, $7–$10 samples, $11–$12 per hour
WITH fresh AS (
    INSERT INTO tenantry.reporter AS r (id, kind, batch, started_at, reported_until, stopped_at)
    VALUES ($1, 'witness', $2, $3, $4, $5)
    ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, reported_until = excluded.reported_until,
        stopped_at = excluded.stopped_at
    WHERE r.batch < excluded.batch
    RETURNING id
), seen AS (
    INSERT INTO tenantry.sample AS s (hour, database, tenant, wait, sessions)
    SELECT part.hour, $6::text, part.tenant, part.wait, part.sessions
    FROM fresh, unnest($7::timestamptz[], $8::text[], $9::text[], $10::bigint[]) AS part (hour, tenant, wait, sessions)
    ON CONFLICT (hour, database, tenant, wait) DO UPDATE SET sessions = s.sessions + excluded.sessions
), taken AS (
    INSERT INTO tenantry.sampled AS t (hour, database, samples)
    SELECT part.hour, $6::text, part.samples
    FROM fresh, unnest($11::timestamptz[], $12::bigint[]) AS part (hour, samples)
    ON CONFLICT (hour, database) DO UPDATE SET samples = t.samples + excluded.samples
)
SELECT EXISTS (SELECT FROM fresh) AS counted
