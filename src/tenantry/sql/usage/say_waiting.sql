-- Says who waits in front of the databases of the router $1, which says so again after $2 seconds: $3.
INSERT INTO tenantry.waiting (router, said_at, every_seconds, queues)
VALUES ($1, clock_timestamp(), $2::float8, $3::jsonb)
ON CONFLICT (router) DO UPDATE SET said_at = excluded.said_at, every_seconds = excluded.every_seconds,
    queues = excluded.queues
