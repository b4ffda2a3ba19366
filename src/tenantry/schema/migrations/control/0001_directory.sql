-- The directory: which databases there are, where each tenant lives, and who did what.
--
-- Runnable in psql. Every change to a tenant or a database is notified on the channel tenantry_directory when it
-- commits (../../functions/control.sql); `changed` lets a router that missed the notification ask for what it missed.

CREATE SCHEMA IF NOT EXISTS tenantry;

CREATE TABLE tenantry.database (
    name       text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$'),
    kind       text NOT NULL CHECK (kind IN ('shared', 'dedicated')),
    dsn        text NOT NULL,              -- a reference: env:NAME, file:PATH or config; never a credential
    settings   jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    changed    xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CHECK (dsn = 'config' OR dsn ~ '^(env|file):.+$')
);

CREATE TABLE tenantry.tenant (
    id         text PRIMARY KEY CHECK (id <> ''),
    database   text NOT NULL REFERENCES tenantry.database,
    epoch      bigint NOT NULL DEFAULT 1 CHECK (epoch >= 1),
    state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'removed')),
    plan       text,
    weight     real NOT NULL DEFAULT 1 CHECK (weight BETWEEN 0.01 AND 100),
    limits     jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    placed_at  timestamptz NOT NULL DEFAULT now(),
    changed    xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX tenant_changed ON tenantry.tenant (changed);
CREATE INDEX tenant_database ON tenantry.tenant (database);

-- Who did what: operators' scopes, changes of the directory, moves.
CREATE TABLE tenantry.event (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind       text NOT NULL,
    actor      text NOT NULL,              -- session user, and who it says it is
    tenant     text,
    database   text,
    reason     text,
    detail     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX event_at ON tenantry.event (at);
