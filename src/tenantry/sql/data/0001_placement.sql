-- What a data database holds so that it, not a router's cache, decides who lives here and who may come in.
--
-- Runnable in psql. Afterwards call tenantry.configure(…) once: it makes the functions that depend on the
-- database's name, the setting and the type of the tenant ids.

CREATE SCHEMA IF NOT EXISTS tenantry;

CREATE TABLE tenantry.local (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    name       text NOT NULL,             -- this database's name in the directory
    kind       text NOT NULL CHECK (kind IN ('shared', 'dedicated')),
    setting    text NOT NULL CHECK (setting ~ '^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+$'),
    id_type    text NOT NULL CHECK (id_type IN ('uuid', 'bigint', 'text')),
    tenant     text                       -- the only tenant that may live here; NULL on shared databases
);
COMMENT ON TABLE tenantry.local IS 'What this database is called and how its tenants are told apart';

-- One row for every tenant that lives here or has lived here. The row of a tenant that left stays, with its
-- new home: a router with an old cache is refused by it. A tenant without a row does not live here.
CREATE TABLE tenantry.placement (
    tenant     text PRIMARY KEY CHECK (tenant <> ''),
    home       text NOT NULL,             -- name of the database where the tenant lives
    epoch      bigint NOT NULL CHECK (epoch >= 1),
    suspended  boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenantry.placement IS 'Where each tenant that this database knows lives now';

-- The advisory lock of a tenant: shared by every transaction that works for it, exclusive for the fence. The
-- two-integer form keeps clear of applications, which mostly use one bigint. Two tenants whose hashes are
-- equal share a lock: while one is fenced, the other waits those milliseconds too.
CREATE FUNCTION tenantry.lock_space() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 1415071060;      -- 'TNNT'

CREATE FUNCTION tenantry.lock_key(tenant text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN pg_catalog.hashtext(tenant);

-- Writes a new tenant's placement. Routers call it at sign-up, as the application role; it can neither bring
-- back a tenant that has left nor settle a second tenant in a dedicated database.
CREATE FUNCTION tenantry.enroll(tenant text, epoch bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $enroll$
#variable_conflict use_variable
DECLARE
    here tenantry.local;
BEGIN
    SELECT * INTO STRICT here FROM tenantry.local AS l;
    IF here.tenant IS NOT NULL AND here.tenant <> tenant THEN
        RAISE EXCEPTION 'database % serves one tenant only, and it is another', here.name
            USING ERRCODE = 'TN001', DETAIL = '{"home": null, "epoch": null}';
    END IF;
    INSERT INTO tenantry.placement AS p (tenant, home, epoch) VALUES (tenant, here.name, epoch)
        ON CONFLICT DO NOTHING;
END
$enroll$;

-- Names this database and makes bind, admitted and current_tenant for it. Run again after a change.
--
-- The lock and the check are separate statements of a VOLATILE function on purpose: under READ COMMITTED each
-- takes a snapshot of its own, so a check that comes after the lock sees whatever was committed before the
-- lock was given. In one statement, or in a STABLE function, the check would answer from a snapshot older
-- than the flip, and a write would land in the old home. Under the higher levels the snapshot is older by
-- nature, so the row is read FOR SHARE: a flip in between gives 40001. (A READ ONLY transaction can't lock
-- rows, and can't write either.) The lock is tried, never waited for: the attempt fails as soon as the fence
-- asks for the lock, which keeps newcomers off.
CREATE FUNCTION tenantry.configure(name text, kind text, setting text, id_type text, tenant text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $configure$
#variable_conflict use_variable
DECLARE
    admit CONSTANT text := $admit$
    IF NOT pg_try_advisory_xact_lock_shared(@space@, hashtext(tenant)) THEN
        RAISE EXCEPTION 'tenant % is fenced: it is being moved', tenant
            USING ERRCODE = 'TN002', HINT = 'Try again: the fence lasts less than a second.';
    END IF;
    IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')
       OR current_setting('transaction_read_only') = 'on' THEN
        SELECT * INTO place FROM tenantry.placement AS p WHERE p.tenant = tenant;
    ELSE
        SELECT * INTO place FROM tenantry.placement AS p WHERE p.tenant = tenant FOR SHARE;
    END IF;
    IF place.home IS DISTINCT FROM @name@ THEN
        RAISE EXCEPTION 'tenant % does not live in database %', tenant, @name@
            USING ERRCODE = 'TN001',
                  DETAIL = json_build_object('home', place.home, 'epoch', place.epoch)::text;
    END IF;
    IF place.suspended THEN
        RAISE EXCEPTION 'tenant % is suspended', tenant USING ERRCODE = 'TN003';
    END IF;$admit$;
    bind CONSTANT text := $bind$
CREATE OR REPLACE FUNCTION tenantry.bind(tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    place tenantry.placement;
BEGIN@admit@
    -- SET LOCAL through EXECUTE, not set_config: it is what Citus carries to its workers.
    EXECUTE format('SET LOCAL @setting@ = %L', tenant);
    PERFORM set_config('application_name', @tag@, true);
END
$fn$$bind$;
    admitted CONSTANT text := $admitted$
CREATE OR REPLACE FUNCTION tenantry.admitted() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    tenant CONSTANT text := current_setting('@setting@', true);
    place tenantry.placement;
BEGIN
    IF tenant IS NULL OR tenant = '' THEN
        RETURN false;
    END IF;@admit@
    RETURN true;
END
$fn$$admitted$;
    current_tenant CONSTANT text := $current_tenant$
CREATE OR REPLACE FUNCTION tenantry.current_tenant() RETURNS @id_type@
LANGUAGE sql STABLE PARALLEL SAFE AS $fn$
    SELECT nullif(pg_catalog.current_setting('@setting@', true), '')::pg_catalog.@id_type@
$fn$$current_tenant$;
    tag CONSTANT text := CASE WHEN id_type = 'text' THEN
        $tag$'tenantry:' || CASE WHEN octet_length(tenant) <= 50 AND tenant COLLATE "C" !~ '[^ -~]'
                                 THEN tenant ELSE '#' || md5(convert_to(tenant, 'UTF8')) END$tag$
        ELSE $tag$'tenantry:' || tenant$tag$ END;
    known tenantry.local;
    source text;
BEGIN
    SELECT * INTO known FROM tenantry.local AS l;
    IF known.id_type IS DISTINCT FROM id_type AND known.id_type IS NOT NULL THEN
        RAISE EXCEPTION 'this database holds tenants of type %, not %', known.id_type, id_type
            USING HINT = 'Set tenancy.type to what the database was installed with.';
    END IF;
    IF known.tenant IS NOT NULL AND tenant IS NOT NULL AND known.tenant <> tenant THEN
        RAISE EXCEPTION 'this database is stamped for another tenant'
            USING HINT = 'Check the DSN: it may point at another customer''s database.';
    END IF;
    IF known.name IS NOT NULL AND known.name <> name
       AND EXISTS (SELECT FROM tenantry.placement AS p WHERE p.home = known.name) THEN
        RAISE EXCEPTION 'this database is called % and has tenants', known.name
            USING HINT = 'Check the DSN, or keep the name.';
    END IF;
    INSERT INTO tenantry.local AS l (name, kind, setting, id_type, tenant)
        VALUES (name, kind, setting, id_type, tenant)
        ON CONFLICT (singleton) DO UPDATE
        SET name = excluded.name, kind = excluded.kind, setting = excluded.setting,
            tenant = coalesce(excluded.tenant, l.tenant);
    FOREACH source IN ARRAY ARRAY[bind, admitted, current_tenant] LOOP
        source := replace(source, '@admit@', admit);
        source := replace(source, '@tag@', tag);
        source := replace(source, '@setting@', setting);
        source := replace(source, '@id_type@', id_type);
        source := replace(source, '@space@', tenantry.lock_space()::text);
        EXECUTE replace(source, '@name@', quote_literal(name));
    END LOOP;
    EXECUTE 'REVOKE ALL ON FUNCTION tenantry.bind(text), tenantry.admitted() FROM PUBLIC';
END
$configure$;

-- What the application role needs, and nothing more: it can't read who else lives here.
CREATE FUNCTION tenantry.grant_application(role text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $grant$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA tenantry TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION tenantry.bind(text), tenantry.admitted(), '
                   'tenantry.current_tenant(), tenantry.enroll(text, bigint) TO %I', role);
END
$grant$;

REVOKE ALL ON FUNCTION tenantry.enroll(text, bigint), tenantry.grant_application(text),
    tenantry.configure(text, text, text, text, text) FROM PUBLIC;
