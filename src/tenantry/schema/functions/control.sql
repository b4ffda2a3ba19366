-- Functions and triggers of the control database. Applied again at every `tenantry init`.

-- Stamps a changed row with its transaction, so that a router can ask for what changed since it last asked.
CREATE OR REPLACE FUNCTION tenantry.stamp_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.changed := pg_current_xact_id();
    RETURN NEW;
END
$$;

-- One notification a statement. Ids are listed while they fit, with the transaction that wrote them, so that a
-- router knows its own sign-up when it hears of it; a bulk change says "*": anything.
CREATE OR REPLACE FUNCTION tenantry.notify_tenants() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids text[];
    message text;
BEGIN
    SELECT array_agg(id) INTO ids FROM (SELECT id FROM changed_rows LIMIT 65) AS sample;
    IF ids IS NULL THEN
        RETURN NULL;
    END IF;
    message := json_build_object('tenants', to_json(ids), 'changed', pg_current_xact_id()::text)::text;
    IF array_length(ids, 1) > 64 OR octet_length(message) > 7000 THEN
        message := '{"tenants": "*"}';
    END IF;
    PERFORM pg_notify('tenantry_directory', message);
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION tenantry.notify_databases() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('tenantry_directory', '{"databases": "*"}');
    RETURN NULL;
END
$$;

-- The lease: a session that holds pg_advisory_lock(move_lock_space(), hashtext(move)) runs that move.
CREATE OR REPLACE FUNCTION tenantry.move_lock_space() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 1414417750  -- 'TNMV'
$$;
