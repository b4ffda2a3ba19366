-- The directory: which databases there are, where each tenant lives, and who did what.
--
-- Runnable in psql. Every change to a tenant or a database is told on the channel tenantry_directory when it
-- commits; `changed` lets a router that missed the notification ask for what it missed.

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

CREATE FUNCTION tenantry.stamp_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.changed := pg_current_xact_id();
    RETURN NEW;
END
$$;
CREATE TRIGGER stamp BEFORE UPDATE ON tenantry.tenant FOR EACH ROW EXECUTE FUNCTION tenantry.stamp_change();
CREATE TRIGGER stamp BEFORE UPDATE ON tenantry.database FOR EACH ROW EXECUTE FUNCTION tenantry.stamp_change();

-- One notification a statement. Ids are listed while they fit; a bulk change says "*": drop everything.
CREATE FUNCTION tenantry.tell_tenants() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids text[];
    message text;
BEGIN
    SELECT array_agg(id) INTO ids FROM (SELECT id FROM changed_rows LIMIT 65) AS sample;
    IF ids IS NULL THEN
        RETURN NULL;
    END IF;
    message := json_build_object('tenants', to_json(ids))::text;
    IF array_length(ids, 1) > 64 OR octet_length(message) > 7000 THEN
        message := '{"tenants": "*"}';
    END IF;
    PERFORM pg_notify('tenantry_directory', message);
    RETURN NULL;
END
$$;
CREATE TRIGGER tell_insert AFTER INSERT ON tenantry.tenant
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION tenantry.tell_tenants();
CREATE TRIGGER tell_update AFTER UPDATE ON tenantry.tenant
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION tenantry.tell_tenants();
CREATE TRIGGER tell_delete AFTER DELETE ON tenantry.tenant
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION tenantry.tell_tenants();

CREATE FUNCTION tenantry.tell_databases() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('tenantry_directory', '{"databases": "*"}');
    RETURN NULL;
END
$$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON tenantry.database
    FOR EACH STATEMENT EXECUTE FUNCTION tenantry.tell_databases();
