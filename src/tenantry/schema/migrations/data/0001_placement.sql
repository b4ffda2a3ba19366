-- What a data database holds so that it, not a router's cache, decides who lives here and who may come in.
--
-- Runnable in psql. Migrations make tables; the functions stand in ../../functions and are applied after them.

CREATE SCHEMA IF NOT EXISTS tenantry;

CREATE TABLE tenantry.database_identity (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    name       text NOT NULL,             -- this database's name in the directory
    kind       text NOT NULL CHECK (kind IN ('shared', 'dedicated')),
    setting    text NOT NULL CHECK (setting ~ '^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+$'),
    id_type    text NOT NULL CHECK (id_type IN ('uuid', 'bigint', 'text')),
    tenant     text,                      -- the only tenant that may live here; NULL on shared databases
    hardened   boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE tenantry.database_identity IS 'What this database is called and how its tenants are told apart';

-- One row for every tenant that lives here or has lived here. The row of a tenant that left stays, with its
-- new home: a router with an old cache is refused by it. A tenant without a row does not live here.
CREATE TABLE tenantry.placement (
    tenant     text PRIMARY KEY CHECK (tenant <> ''),
    database   text NOT NULL,             -- name of the database where the tenant lives
    epoch      bigint NOT NULL CHECK (epoch >= 1),
    suspended  boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenantry.placement IS 'Where each tenant that this database knows lives now';

-- The key of hardened mode, as the two padded blocks of RFC 2104. The application role can't read it; what it
-- calls reads it as the owner of this schema.
CREATE TABLE tenantry.secret (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    inner_pad  bytea NOT NULL CHECK (octet_length(inner_pad) = 64),
    outer_pad  bytea NOT NULL CHECK (octet_length(outer_pad) = 64)
);
