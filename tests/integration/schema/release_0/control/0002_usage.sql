-- The ledger: who used how much of which database, per hour, and how much of that is known.
--
-- Runnable in psql. Times are UTC. Seconds are double precision. A row exists only where there was use.

-- Use per hour. Hours are rolled into days after a while (tenantry.roll_usage); a day is the sum of both tables.
-- The fill factor leaves room for the current hour's rows to be updated in place (HOT) every few seconds.
CREATE TABLE tenantry.usage (
    hour            timestamptz NOT NULL,
    database        text NOT NULL,
    tenant          text NOT NULL,
    busy_seconds    double precision NOT NULL DEFAULT 0,   -- statements running, as the router saw them
    held_seconds    double precision NOT NULL DEFAULT 0,   -- connections held
    waited_seconds  double precision NOT NULL DEFAULT 0,   -- callers waiting for their scope
    commits         bigint NOT NULL DEFAULT 0,
    rollbacks       bigint NOT NULL DEFAULT 0,
    errors          bigint NOT NULL DEFAULT 0,
    statements      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (hour, database, tenant)
) WITH (fillfactor = 70);
COMMENT ON TABLE tenantry.usage IS 'Use per hour (UTC), database and tenant';

-- Use per day: hours that were rolled up, and days that were imported. `source` is 'measured' or the label of
-- an import; an import never mixes with what was measured.
CREATE TABLE tenantry.usage_day (
    day             date NOT NULL,
    database        text NOT NULL,
    tenant          text NOT NULL,
    source          text NOT NULL DEFAULT 'measured' CHECK (source <> ''),
    busy_seconds    double precision NOT NULL DEFAULT 0,
    held_seconds    double precision NOT NULL DEFAULT 0,
    waited_seconds  double precision NOT NULL DEFAULT 0,
    commits         bigint NOT NULL DEFAULT 0,
    rollbacks       bigint NOT NULL DEFAULT 0,
    errors          bigint NOT NULL DEFAULT 0,
    statements      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (day, database, tenant, source)
);
-- Finds a day's largest tenants without reading the others.
CREATE INDEX usage_day_largest ON tenantry.usage_day (day, database, source, busy_seconds DESC);
CREATE INDEX usage_day_tenant ON tenantry.usage_day (tenant, day);

-- Who writes the ledger, and the idempotency key: `batch` is the number of the last batch that was counted. A
-- reporter sends batch n+1 only once it knows that n is in, so one number per reporter is enough.
CREATE TABLE tenantry.reporter (
    id              uuid PRIMARY KEY,
    kind            text NOT NULL CHECK (kind IN ('router', 'witness')),
    batch           bigint NOT NULL,
    started_at      timestamptz NOT NULL,
    reported_until  timestamptz NOT NULL,          -- use up to here is in the ledger
    stopped_at      timestamptz                    -- said good-bye: nothing more will come
) WITH (fillfactor = 50);
CREATE INDEX reporter_until ON tenantry.reporter (kind, reported_until);
COMMENT ON COLUMN tenantry.reporter.batch IS 'Number of the last batch that was counted; a batch with this or a lower number is a repetition';

-- How many seconds of each hour a router was reporting.
CREATE TABLE tenantry.reported (
    hour            timestamptz NOT NULL,
    reporter        uuid NOT NULL,
    seconds         double precision NOT NULL,
    PRIMARY KEY (hour, reporter)
) WITH (fillfactor = 70);

-- The denominator: seconds that each database was executing statements, read from the server itself.
-- `covered_seconds`: how much of the hour is known.
CREATE TABLE tenantry.database_usage (
    hour            timestamptz NOT NULL,
    database        text NOT NULL,
    busy_seconds    double precision NOT NULL DEFAULT 0,
    covered_seconds double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (hour, database)
) WITH (fillfactor = 70);

CREATE TABLE tenantry.database_usage_day (
    day             date NOT NULL,
    database        text NOT NULL,
    source          text NOT NULL DEFAULT 'measured' CHECK (source <> ''),
    busy_seconds    double precision NOT NULL,
    covered         double precision NOT NULL CHECK (covered BETWEEN 0 AND 1),  -- of the denominator
    reported        double precision NOT NULL CHECK (reported BETWEEN 0 AND 1), -- of the fleet
    final           boolean NOT NULL DEFAULT false,  -- its hours are rolled up: not computed again
    attributed_seconds double precision NOT NULL DEFAULT 0,  -- of busy_seconds, what is some tenant's
    PRIMARY KEY (day, database, source)
);

-- The last reading of each database's counters, from which the next difference is taken. `version` makes two
-- collectors that read at once harmless: only one of them finds the version that it started from.
CREATE TABLE tenantry.database_reading (
    database        text PRIMARY KEY,
    version         bigint NOT NULL,
    reading         jsonb NOT NULL
);

-- The witness: samples of pg_stat_activity. `tenant` is the id, '#' and a hash for ids that do not fit into
-- application_name, or '' for sessions without a tenant.
CREATE TABLE tenantry.sample (
    hour            timestamptz NOT NULL,
    database        text NOT NULL,
    tenant          text NOT NULL,
    wait            text NOT NULL,                 -- CPU, IO, Lock, LWLock, Client …
    sessions        bigint NOT NULL,               -- sum over the samples
    PRIMARY KEY (hour, database, tenant, wait)
) WITH (fillfactor = 70);

CREATE TABLE tenantry.sampled (
    hour            timestamptz NOT NULL,
    database        text NOT NULL,
    samples         bigint NOT NULL,
    PRIMARY KEY (hour, database)
) WITH (fillfactor = 70);

-- Bytes that each tenant's rows take, estimated from a sample of the pages. Small tenants are added up in ''.
CREATE TABLE tenantry.storage (
    day             date NOT NULL,
    database        text NOT NULL,
    tenant          text NOT NULL,
    bytes           bigint NOT NULL,
    PRIMARY KEY (day, database, tenant)
);
