-- What a move needs inside the data databases: the gate that decides it, and the markers that prove that one side
-- has all of the other.
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

-- Which parts of the schema a move has loaded here, written in the transaction that loads them.
CREATE TABLE tenantry.move_loaded (
    move       text NOT NULL,
    section    text NOT NULL,
    PRIMARY KEY (move, section)
);
