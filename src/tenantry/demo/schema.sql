-- The demo's product: API management. Customers (tenants) own routes and consumers; every call is logged.
--
-- Runnable in psql. The tenant leads every key and every index, and is part of every foreign key, so that a row
-- can't even point at another tenant's row. Ids and paths repeat from tenant to tenant on purpose. Row-level
-- security is added by the policy generator (tenantry.isolation.policy), the same for all four tables.

CREATE TABLE tenants (
    tenant_id   uuid PRIMARY KEY,
    name        text NOT NULL,
    plan        text NOT NULL
);

CREATE TABLE routes (
    tenant_id   uuid NOT NULL REFERENCES tenants,
    id          integer NOT NULL,
    path        text NOT NULL,
    upstream    text NOT NULL,
    rate_limit  integer NOT NULL,               -- calls a minute
    hits        bigint NOT NULL DEFAULT 0,      -- counted by the load; the history checker adds them up
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, path)
) WITH (fillfactor = 80);

CREATE TABLE consumers (
    tenant_id   uuid NOT NULL REFERENCES tenants,
    id          integer NOT NULL,
    api_key     text NOT NULL,
    name        text NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, api_key)
);

CREATE TABLE request_log (
    tenant_id   uuid NOT NULL,
    id          bigint GENERATED ALWAYS AS IDENTITY,
    operation   uuid,                           -- given by the client; NULL in rows that the demo was filled with
    route_id    integer NOT NULL,
    consumer_id integer NOT NULL,
    status      smallint NOT NULL,
    millis      real NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, route_id) REFERENCES routes,
    FOREIGN KEY (tenant_id, consumer_id) REFERENCES consumers
);
CREATE INDEX request_log_recent ON request_log (tenant_id, at);
