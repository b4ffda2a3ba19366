-- Who waits for a connection, as each router last said. One row a router, so that an update stays in place (HOT).
--
-- Runnable in psql. Unlogged: it is of interest for seconds, and a crash may forget it.
CREATE UNLOGGED TABLE tenantry.waiting (
    router          uuid PRIMARY KEY,
    said_at         timestamptz NOT NULL,
    every_seconds   double precision NOT NULL,     -- after which the router says it again
    queues          jsonb NOT NULL                 -- [[database, tenant, callers that wait], …], the longest first
) WITH (fillfactor = 50);
COMMENT ON TABLE tenantry.waiting IS 'Callers that wait in front of the databases, by router, as it last said';

-- What the tenants' seconds of a day were more than the server's own, hour by hour, and the statements of those
-- hours: time on the way and in the routers' processes, which is the same for every statement.
ALTER TABLE tenantry.database_usage_day
    ADD COLUMN excess_seconds double precision NOT NULL DEFAULT 0,
    ADD COLUMN excess_statements bigint NOT NULL DEFAULT 0;
