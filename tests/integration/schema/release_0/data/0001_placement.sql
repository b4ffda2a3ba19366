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
    tenant     text,                      -- the only tenant that may live here; NULL on shared databases
    hardened   boolean NOT NULL DEFAULT false
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

-- The key of hardened mode, as the two padded blocks of RFC 2104. The application role can't read it; what it
-- calls reads it as the owner of this schema.
CREATE TABLE tenantry.secret (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    inner_pad  bytea NOT NULL CHECK (octet_length(inner_pad) = 64),
    outer_pad  bytea NOT NULL CHECK (octet_length(outer_pad) = 64)
);

-- HMAC-SHA256 of a message under this database's key, in hexadecimal. bind and admitted_tenant have the same
-- expression inline, for speed.
CREATE FUNCTION tenantry.proof_of(message text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $proof$
    SELECT encode(sha256(s.outer_pad || sha256(s.inner_pad || convert_to(message, 'UTF8'))), 'hex')
    FROM tenantry.secret AS s
$proof$;

-- The advisory lock of a tenant: shared by every transaction that works for it, exclusive for the fence. The
-- two-integer form keeps clear of applications, which mostly use one bigint. Two tenants whose hashes are
-- equal share a lock: while one is fenced, the other waits those milliseconds too.
CREATE FUNCTION tenantry.lock_space() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 1415071060;      -- 'TNNT'

CREATE FUNCTION tenantry.lock_key(tenant text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN pg_catalog.hashtext(tenant);

-- Writes a new tenant's placement. Routers call it at sign-up, as the application role; it can neither bring
-- back a tenant that has left nor settle a second tenant in a dedicated database. In hardened mode it wants
-- proof that it is the router who calls.
CREATE FUNCTION tenantry.enroll(tenant text, epoch bigint, proof text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $enroll$
#variable_conflict use_variable
DECLARE
    here tenantry.local;
BEGIN
    SELECT * INTO STRICT here FROM tenantry.local AS l;
    IF here.hardened
       AND proof IS DISTINCT FROM tenantry.proof_of(format('enroll %s %s %s', pg_backend_pid(), epoch, tenant))
       AND proof IS DISTINCT FROM tenantry.proof_of(format('enroll 0 %s %s', epoch, tenant)) THEN
        RAISE EXCEPTION 'enroll needs the router''s proof' USING ERRCODE = 'TN004';
    END IF;
    IF here.tenant IS NOT NULL AND here.tenant <> tenant THEN
        RAISE EXCEPTION 'database % serves one tenant only, and it is another', here.name
            USING ERRCODE = 'TN001', DETAIL = '{"home": null, "epoch": null}';
    END IF;
    INSERT INTO tenantry.placement AS p (tenant, home, epoch) VALUES (tenant, here.name, epoch)
        ON CONFLICT DO NOTHING;
END
$enroll$;

-- Says why a tenant is not let in. Reads its placement again: by now the answer can only be newer.
CREATE FUNCTION tenantry.refuse(tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $refuse$
#variable_conflict use_variable
DECLARE
    here CONSTANT text := (SELECT l.name FROM tenantry.local AS l);
    place tenantry.placement;
BEGIN
    SELECT * INTO place FROM tenantry.placement AS p WHERE p.tenant = tenant;
    IF place.home = here AND place.suspended THEN
        RAISE EXCEPTION 'tenant % is suspended', tenant USING ERRCODE = 'TN003';
    END IF;
    RAISE EXCEPTION 'tenant % does not live in database %', tenant, here
        USING ERRCODE = 'TN001',
              DETAIL = json_build_object('home', place.home, 'epoch', place.epoch)::text;
END
$refuse$;

-- Names this database and makes bind, admitted and current_tenant for it. Run again after a change.
--
-- The lock and the check are separate statements of a VOLATILE function on purpose: under READ COMMITTED each
-- takes a snapshot of its own, so a check that comes after the lock sees whatever was committed before the
-- lock was given. In one statement, or in a STABLE function, the check would answer from a snapshot older
-- than the flip, and a write would land in the old home. Under the higher levels the snapshot is older by
-- nature, so the row is read FOR SHARE: a flip in between gives 40001. (A READ ONLY transaction can't lock
-- rows, and can't write either.) The lock is tried, never waited for: the attempt fails as soon as the fence
-- asks for the lock, which keeps newcomers off.
--
-- What bind has checked stays true to the end of its transaction: the lock is held, so the tenant can't have
-- left. So bind leaves the tenant as a mark, and the policies repeat the check only where it is not the tenant
-- that is set: in psql, in scripts, after the application has set another one. A statement costs a third less
-- at the server for it. The mark is as local as the lock: COMMIT, ROLLBACK and ROLLBACK TO SAVEPOINT take both.
-- Code that means to can set it, as it can set the tenant: against that there is hardened mode.
--
-- In hardened mode bind wants a proof that the router made for this tenant and this server process, and the
-- mark it leaves is a proof too, for this tenant, process and transaction: SQL that is injected into a scope can
-- set what it likes, but it can make neither.
CREATE FUNCTION tenantry.configure(name text, kind text, setting text, id_type text, tenant text DEFAULT NULL,
                                   hardened boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $configure$
#variable_conflict use_variable
DECLARE
    admit CONSTANT text := $admit$
    IF NOT pg_try_advisory_xact_lock_shared(@space@, hashtext(tenant)) THEN
        RAISE EXCEPTION 'tenant % is fenced: it is being moved', tenant
            USING ERRCODE = 'TN002', HINT = 'Try again: the fence lasts less than a second.';
    END IF;
    IF current_setting('transaction_isolation') = 'read committed'
       OR current_setting('transaction_read_only') = 'on' THEN
        SELECT p.home, p.suspended INTO home, suspended FROM tenantry.placement AS p WHERE p.tenant = tenant;
    ELSE
        SELECT p.home, p.suspended INTO home, suspended FROM tenantry.placement AS p WHERE p.tenant = tenant
            FOR SHARE;
    END IF;
    IF home IS DISTINCT FROM @name@ OR suspended THEN
        PERFORM tenantry.refuse(tenant);
    END IF;$admit$;
    keys CONSTANT text := $keys$
    SELECT s.inner_pad, s.outer_pad INTO inner_pad, outer_pad FROM tenantry.secret AS s;$keys$;
    hmac CONSTANT text := $hmac$encode(sha256(outer_pad || sha256(inner_pad || convert_to(
        @message@, 'UTF8'))), 'hex')$hmac$;
    -- The same inside a query that has the row of tenantry.secret as s: the hot path, in one statement.
    keyed_hmac CONSTANT text := replace(replace(hmac, 'outer_pad', 's.outer_pad'), 'inner_pad', 's.inner_pad');
    scope_message CONSTANT text :=
        $m$'scope ' || pg_backend_pid() || ' ' || extract(epoch FROM now()) || ' ' || tenant$m$;
    prove CONSTANT text := CASE WHEN hardened THEN keys || $prove$
    IF proof IS DISTINCT FROM @hmac:'bind ' || pg_backend_pid() || ' ' || tenant@
       AND proof IS DISTINCT FROM @hmac:'bind 0 ' || tenant@ THEN
        RAISE EXCEPTION 'bind needs the router''s proof for this tenant' USING ERRCODE = 'TN004';
    END IF;$prove$ ELSE '' END;
    seal CONSTANT text := CASE WHEN hardened THEN $seal$
    tag := set_config('tenantry.proof', @hmac:scope@, true);$seal$ ELSE $mark$
    tag := set_config('tenantry.bound', tenant, true);$mark$ END;
    check_seal CONSTANT text := CASE WHEN hardened THEN $check$
    IF NOT EXISTS (SELECT FROM tenantry.secret AS s
                   WHERE current_setting('tenantry.proof', true) = @keyed_hmac:scope@) THEN
        RAISE EXCEPTION 'the tenant was not set by the router' USING ERRCODE = 'TN004';
    END IF;$check$ ELSE '@admit@' END;
    bind CONSTANT text := $bind$
CREATE OR REPLACE FUNCTION tenantry.bind(tenant text, proof text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    home text;
    suspended boolean;
    tag text;
    inner_pad bytea;
    outer_pad bytea;
BEGIN@prove@@admit@
    @set_tenant@
    tag := set_config('application_name', @tag@, true);  -- an assignment: half the price of PERFORM@seal@
END
$fn$$bind$;
    -- The same as a procedure, for the hot path: CALL costs the server half of what SELECT does. A scope begins
    -- without session locks, and giving them back costs less here than as a statement of the reset. As few steps
    -- as the common case needs: lock, then check. Whatever is uncommon is left to bind.
    proven_enter CONSTANT text := $enter$
CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text, proof text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    tag text;
BEGIN
    IF pg_advisory_unlock_all() IS NULL THEN END IF;@proven_fast@
    PERFORM tenantry.bind(tenant, proof);
END
$fn$$enter$;
    proven_fast CONSTANT text := CASE WHEN hardened THEN $fast$
    IF pg_try_advisory_xact_lock_shared(@space@, hashtext(tenant))
       AND current_setting('transaction_isolation') = 'read committed' THEN
        SELECT set_config('tenantry.proof', @keyed_hmac:scope@, true)
               || set_config('application_name', @tag@, true) INTO tag
            FROM tenantry.secret AS s, tenantry.placement AS p
            WHERE (proof = @keyed_hmac:'bind ' || pg_backend_pid() || ' ' || tenant@
                   OR proof = @keyed_hmac:'bind 0 ' || tenant@)
              AND p.tenant = tenant AND p.home = @name@ AND NOT p.suspended;
        IF FOUND THEN
            @set_tenant@
            RETURN;
        END IF;
    END IF;$fast$ ELSE '' END;
    enter CONSTANT text := $enter$
CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    tag text;
BEGIN
    IF pg_advisory_unlock_all() IS NULL THEN END IF;
    IF pg_try_advisory_xact_lock_shared(@space@, hashtext(tenant))
       AND current_setting('transaction_isolation') = 'read committed' THEN
        IF EXISTS (SELECT FROM tenantry.placement AS p
                   WHERE p.tenant = tenant AND p.home = @name@ AND NOT p.suspended) THEN
            @set_tenant@
            tag := set_config('application_name', @tag@, true) || set_config('tenantry.bound', tenant, true);
            RETURN;
        END IF;
    END IF;
    PERFORM tenantry.bind(tenant);
END
$fn$$enter$;
    plain_enter CONSTANT text := CASE WHEN hardened THEN $refusing$
CREATE OR REPLACE PROCEDURE tenantry.enter(tenant text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    PERFORM tenantry.bind(tenant);
END
$fn$$refusing$ ELSE enter END;
    plain_bind CONSTANT text := CASE WHEN hardened THEN $refusing$
CREATE OR REPLACE FUNCTION tenantry.bind(tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    RAISE EXCEPTION 'this database is hardened: bind needs the router''s proof' USING ERRCODE = 'TN004';
END
$fn$$refusing$ ELSE replace(bind, '(tenant text, proof text)', '(tenant text)') END;
    admitted_tenant CONSTANT text := $admitted$
CREATE OR REPLACE FUNCTION tenantry.admitted_tenant() RETURNS @id_type@
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    tenant CONSTANT text := current_setting('@setting@', true);
    home text;
    suspended boolean;
BEGIN
    IF tenant IS NULL OR tenant = '' THEN
        RETURN @nobody@;
    END IF;@check_seal@
    RETURN @somebody@;
END
$fn$$admitted$;
    admit_now CONSTANT text := replace(replace(replace(admitted_tenant, 'admitted_tenant() RETURNS @id_type@',
        'admit() RETURNS boolean'), '@nobody@', 'false'), '@somebody@', 'true');
    -- SQL that the planner puts in place of the call: the mark is compared without calling any function of ours.
    admitted CONSTANT text := $admitted$
CREATE OR REPLACE FUNCTION tenantry.admitted() RETURNS boolean LANGUAGE sql VOLATILE AS $fn$
    SELECT @marked@ tenantry.admit()@end@
$fn$$admitted$;
    marked CONSTANT text := CASE WHEN hardened THEN '' ELSE $marked$CASE
        WHEN nullif(pg_catalog.current_setting('tenantry.bound', true), '') OPERATOR(pg_catalog.=)
             pg_catalog.current_setting('@setting@', true)
        THEN true ELSE$marked$ END;
    current_tenant CONSTANT text := $current_tenant$
CREATE OR REPLACE FUNCTION tenantry.current_tenant() RETURNS @id_type@
LANGUAGE sql STABLE PARALLEL SAFE AS $fn$
    SELECT nullif(pg_catalog.current_setting('@setting@', true), '')::pg_catalog.@id_type@
$fn$$current_tenant$;
    tag CONSTANT text := CASE WHEN id_type = 'text' THEN
        $tag$'tenantry:' || CASE WHEN octet_length(tenant) <= 50 AND tenant COLLATE "C" !~ '[^ -~]'
                                 THEN tenant ELSE '#' || md5(convert_to(tenant, 'UTF8')) END$tag$
        ELSE $tag$'tenantry:' || tenant$tag$ END;
    -- SET LOCAL is what Citus carries to its workers; elsewhere set_config does the same for less.
    set_tenant CONSTANT text := CASE WHEN EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'citus')
        THEN $set$EXECUTE format('SET LOCAL @setting@ = %L', tenant);$set$
        ELSE $set$tag := set_config('@setting@', tenant, true);$set$ END;
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
    IF hardened AND NOT EXISTS (SELECT FROM tenantry.secret) THEN
        RAISE EXCEPTION 'hardened mode needs a key in tenantry.secret first';
    END IF;
    INSERT INTO tenantry.local AS l (name, kind, setting, id_type, tenant, hardened)
        VALUES (name, kind, setting, id_type, tenant, hardened)
        ON CONFLICT (singleton) DO UPDATE
        SET name = excluded.name, kind = excluded.kind, setting = excluded.setting,
            tenant = coalesce(excluded.tenant, l.tenant), hardened = excluded.hardened;
    FOREACH source IN ARRAY ARRAY[bind, plain_bind, proven_enter, plain_enter, admitted_tenant, admit_now, admitted, current_tenant] LOOP
        source := replace(source, '@marked@', marked);
        source := replace(source, '@proven_fast@', proven_fast);
        source := replace(source, '@set_tenant@', set_tenant);
        source := replace(source, '@end@', CASE WHEN hardened THEN '' ELSE ' END' END);
        source := replace(source, '@prove@', prove);
        source := replace(source, '@check_seal@', check_seal);
        source := replace(source, '@seal@', seal);
        source := replace(source, '@keyed_hmac:scope@', replace(keyed_hmac, '@message@', scope_message));
        source := regexp_replace(source, '@keyed_hmac:([^@]*)@', replace(keyed_hmac, '@message@', '\1'), 'g');
        source := replace(source, '@hmac:scope@', replace(hmac, '@message@', scope_message));
        source := regexp_replace(source, '@hmac:([^@]*)@', replace(hmac, '@message@', '\1'), 'g');
        source := replace(source, '@nobody@', 'NULL');
        source := replace(source, '@somebody@', 'tenant::@id_type@');
        source := replace(source, '@admit@', admit);
        source := replace(source, '@tag@', tag);
        source := replace(source, '@setting@', setting);
        -- pg_catalog knows bigint as int8.
        source := replace(source, '@id_type@', CASE id_type WHEN 'bigint' THEN 'int8' ELSE id_type END);
        source := replace(source, '@space@', tenantry.lock_space()::text);
        EXECUTE replace(source, '@name@', quote_literal(name));
    END LOOP;
    EXECUTE 'REVOKE ALL ON PROCEDURE tenantry.enter(text), tenantry.enter(text, text) FROM PUBLIC';
    EXECUTE 'REVOKE ALL ON FUNCTION tenantry.bind(text), tenantry.bind(text, text), tenantry.admit(), '
            'tenantry.admitted(), tenantry.admitted_tenant() FROM PUBLIC';
END
$configure$;

-- What the application role needs, and nothing more: it can't read who else lives here.
CREATE FUNCTION tenantry.grant_application(role text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $grant$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA tenantry TO %I', role);
    EXECUTE format('GRANT EXECUTE ON PROCEDURE tenantry.enter(text), tenantry.enter(text, text) TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION tenantry.bind(text), tenantry.bind(text, text), '
                   'tenantry.admit(), tenantry.admitted(), tenantry.admitted_tenant(), tenantry.current_tenant(), '
                   'tenantry.enroll(text, bigint, text) TO %I', role);
END
$grant$;

REVOKE ALL ON FUNCTION tenantry.enroll(text, bigint, text), tenantry.grant_application(text),
    tenantry.refuse(text), tenantry.proof_of(text),
    tenantry.configure(text, text, text, text, text, boolean) FROM PUBLIC;
