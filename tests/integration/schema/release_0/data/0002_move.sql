-- What a move needs inside the data databases: the gate that decides it, the markers that prove that one side
-- has all of the other, and a placement that never goes backwards.
--
-- Runnable in psql.

-- The decision of a move. Flip and abort both change the row from 'open', so exactly one of them happens,
-- whoever is cut off from whom: the loser finds the row changed and does nothing. Direction 'out' stands in
-- the source and decides between flip and abort; 'back' stands in the target and decides between rollback and
-- release.
CREATE TABLE tenantry.move_gate (
    move       text NOT NULL,
    direction  text NOT NULL CHECK (direction IN ('out', 'back')),
    tenant     text NOT NULL,
    state      text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'flipped', 'closed')),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (move, direction)
);
COMMENT ON TABLE tenantry.move_gate IS 'Whether a move has happened: open, flipped, or closed for good';

-- Rows that travel with the tenant's through logical replication. A marker written after the fence's lock and
-- seen at the other side proves that all of the tenant's writes before it are there.
CREATE TABLE tenantry.move_marker (
    move       text NOT NULL,
    direction  text NOT NULL CHECK (direction IN ('out', 'back')),
    number     bigint NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (move, direction, number)
);
COMMENT ON TABLE tenantry.move_marker IS 'Probes of the replication of moves';

-- A placement never goes backwards. The placement row travels by replication too, and may arrive after its
-- successor was written: then it is skipped. Anybody else who tries is told.
CREATE FUNCTION tenantry.keep_newest_placement() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.epoch >= OLD.epoch THEN
        RETURN NEW;
    END IF;
    IF current_setting('session_replication_role') = 'replica' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'placement of tenant % is at epoch % already', OLD.tenant, OLD.epoch
        USING HINT = 'A placement only changes forwards: read it again.';
END
$$;
CREATE TRIGGER keep_newest BEFORE UPDATE ON tenantry.placement
    FOR EACH ROW EXECUTE FUNCTION tenantry.keep_newest_placement();
ALTER TABLE tenantry.placement ENABLE ALWAYS TRIGGER keep_newest;

-- Which parts of the schema a move has loaded here, written in the transaction that loads them.
CREATE TABLE tenantry.move_loaded (
    move       text NOT NULL,
    section    text NOT NULL,
    PRIMARY KEY (move, section)
);
