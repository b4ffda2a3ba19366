-- Who changed what, tenant by tenant. Runnable in psql, again and again; wants `tenantry init` first.
--
-- The entries are written by a trigger that runs as the owner of this schema. The application role reads those of
-- its tenant and can do nothing else to them: no policy lets it write, even where a careless GRANT does; it can't
-- switch the trigger off, and it can't put the trigger on a table of its own.

DO $$
BEGIN
    -- As the column was called before the first release.
    IF EXISTS (SELECT FROM pg_attribute
               WHERE attrelid = to_regclass('tenantry.audit_log') AND attname = 'home' AND NOT attisdropped) THEN
        ALTER TABLE tenantry.audit_log RENAME COLUMN home TO database;
    END IF;
END
$$;
CREATE TABLE IF NOT EXISTS tenantry.audit_log (
    database     text NOT NULL,                       -- the database where it was written
    id           bigint GENERATED ALWAYS AS IDENTITY,
    tenant       text NOT NULL,                       -- '' for what concerns all: TRUNCATE
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction  xid8 NOT NULL DEFAULT pg_current_xact_id(),
    actor        text,                                -- whom the application names: setting tenantry.actor
    session_role text NOT NULL,                       -- who logged in to PostgreSQL
    relation     text NOT NULL,
    operation    text NOT NULL CHECK (operation IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')),
    key          jsonb,                               -- the primary key; NULL: the table has none
    old          jsonb,                               -- UPDATE: only what changed
    new          jsonb,
    PRIMARY KEY (database, id)
);
COMMENT ON TABLE tenantry.audit_log IS 'Who changed what';
CREATE INDEX IF NOT EXISTS audit_log_tenant ON tenantry.audit_log (tenant, at);

ALTER TABLE tenantry.audit_log ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own ON tenantry.audit_log;
CREATE POLICY own ON tenantry.audit_log FOR SELECT
    USING (tenant = (SELECT tenantry.admitted_tenant()::text));

-- Entries are not changed and not taken away, but by the owner of the log, who forgets old ones. Row-level security
-- says nothing of TRUNCATE, and does not hold operators.
CREATE OR REPLACE FUNCTION tenantry.audit_keep() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    IF current_user <> (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = TG_RELID) THEN
        RAISE EXCEPTION 'the audit log is not changed'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Its owner may delete old entries.';
    END IF;
    RETURN NULL;
END
$fn$;
DROP TRIGGER IF EXISTS keep ON tenantry.audit_log;
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON tenantry.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION tenantry.audit_keep();
ALTER TABLE tenantry.audit_log ENABLE ALWAYS TRIGGER keep;

-- Arguments: the tenant column, the columns of the key, the columns whose values are not to be kept (both as JSON).
CREATE OR REPLACE FUNCTION tenantry.audit_row() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    -- OLD and NEW are NULL where there is none.
    before CONSTANT jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    after CONSTANT jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
BEGIN
    IF TG_OP = 'UPDATE' AND before -> TG_ARGV[0] IS DISTINCT FROM after -> TG_ARGV[0] THEN
        -- An operator gave the row to another tenant: neither learns of the other.
        PERFORM tenantry.audit_write(TG_RELID, TG_ARGV, 'DELETE', before, NULL);
        PERFORM tenantry.audit_write(TG_RELID, TG_ARGV, 'INSERT', NULL, after);
    ELSIF before IS DISTINCT FROM after THEN
        PERFORM tenantry.audit_write(TG_RELID, TG_ARGV, TG_OP, before, after);
    END IF;
    RETURN NULL;
END
$fn$;

CREATE OR REPLACE FUNCTION tenantry.audit_write(relation oid, arguments text[], operation text, before jsonb,
                                                after jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    -- The arguments of a trigger count from 0.
    tenant_column CONSTANT text := arguments[array_lower(arguments, 1)];
    key_columns CONSTANT jsonb := arguments[array_lower(arguments, 1) + 1];
    hidden CONSTANT jsonb := arguments[array_lower(arguments, 1) + 2];
    whole CONSTANT jsonb := coalesce(after, before);
    key jsonb;
    old jsonb := before;
    new jsonb := after;
BEGIN
    SELECT jsonb_object_agg(k, whole -> k) INTO key FROM jsonb_array_elements_text(key_columns) AS k;
    IF operation = 'UPDATE' AND key IS NOT NULL THEN
        SELECT jsonb_object_agg(b.key, b.value), jsonb_object_agg(b.key, after -> b.key) INTO old, new
            FROM jsonb_each(before) AS b WHERE b.value IS DISTINCT FROM after -> b.key;
    END IF;
    IF jsonb_array_length(hidden) > 0 THEN
        SELECT jsonb_object_agg(e.key, CASE WHEN hidden ? e.key THEN '"***"' ELSE e.value END) INTO old
            FROM jsonb_each(old) AS e;
        SELECT jsonb_object_agg(e.key, CASE WHEN hidden ? e.key THEN '"***"' ELSE e.value END) INTO new
            FROM jsonb_each(new) AS e;
    END IF;
    INSERT INTO tenantry.audit_log (database, tenant, actor, session_role, relation, operation, key, old, new)
    VALUES ((SELECT l.name FROM tenantry.database_identity AS l), coalesce(whole ->> tenant_column, ''),
            nullif(current_setting('tenantry.actor', true), ''), session_user, relation::regclass::text, operation,
            key, old, new);
END
$fn$;

CREATE OR REPLACE FUNCTION tenantry.audit_truncated() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    INSERT INTO tenantry.audit_log (database, tenant, actor, session_role, relation, operation)
    VALUES ((SELECT l.name FROM tenantry.database_identity AS l), '', nullif(current_setting('tenantry.actor', true), ''),
            session_user, TG_RELID::regclass::text, 'TRUNCATE');
    RETURN NULL;
END
$fn$;

-- Records a table's changes from now on. `hidden`: columns of which is kept that they changed, not to what.
-- Run it again after changing the primary key.
CREATE OR REPLACE FUNCTION tenantry.audit_on(relation regclass, tenant_column name DEFAULT 'tenant_id',
                                             hidden text[] DEFAULT '{}')
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    missing CONSTANT text[] := ARRAY(
        SELECT wanted FROM unnest(hidden || tenant_column::text) AS wanted
        WHERE NOT EXISTS (SELECT FROM pg_attribute AS a
                          WHERE a.attrelid = relation AND a.attname = wanted AND NOT a.attisdropped));
    keys CONSTANT text[] := ARRAY(
        SELECT a.attname::text FROM pg_index AS i JOIN pg_attribute AS a
            ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = relation AND i.indisprimary ORDER BY a.attnum);
BEGIN
    IF cardinality(missing) > 0 THEN
        RAISE EXCEPTION '% has no column %', relation, missing[1]
            USING HINT = 'Name the tenant column: SELECT tenantry.audit_on(table, column).';
    END IF;
    PERFORM tenantry.audit_off(relation);
    EXECUTE format('CREATE TRIGGER tenantry_audit AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW '
                   'EXECUTE FUNCTION tenantry.audit_row(%L, %L, %L)',
                   relation, tenant_column, to_jsonb(keys), to_jsonb(hidden));
    EXECUTE format('CREATE TRIGGER tenantry_audit_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT '
                   'EXECUTE FUNCTION tenantry.audit_truncated()', relation);
END
$fn$;

CREATE OR REPLACE FUNCTION tenantry.audit_off(relation regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    EXECUTE format('DROP TRIGGER IF EXISTS tenantry_audit ON %s', relation);
    EXECUTE format('DROP TRIGGER IF EXISTS tenantry_audit_truncate ON %s', relation);
END
$fn$;

-- Who may execute a trigger's function may put it on a table of its own and so write what it likes.
REVOKE ALL ON tenantry.audit_log FROM PUBLIC;
REVOKE ALL ON FUNCTION tenantry.audit_keep(), tenantry.audit_row(), tenantry.audit_truncated(),
    tenantry.audit_write(oid, text[], text, jsonb, jsonb), tenantry.audit_on(regclass, name, text[]),
    tenantry.audit_off(regclass) FROM PUBLIC;

-- What the application role gets of it.
CREATE OR REPLACE FUNCTION tenantry.audit_grant(role text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    EXECUTE format('REVOKE ALL ON tenantry.audit_log FROM %I', role);
    EXECUTE format('REVOKE ALL ON FUNCTION tenantry.audit_keep(), tenantry.audit_row(), '
                   'tenantry.audit_truncated(), tenantry.audit_write(oid, text[], text, jsonb, jsonb), '
                   'tenantry.audit_on(regclass, name, text[]), tenantry.audit_off(regclass), '
                   'tenantry.audit_grant(text) FROM %I', role);
    EXECUTE format('GRANT SELECT ON tenantry.audit_log TO %I', role);
END
$fn$;
REVOKE ALL ON FUNCTION tenantry.audit_grant(text) FROM PUBLIC;
