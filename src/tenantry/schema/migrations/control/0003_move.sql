-- The journal of moves: what was intended before it was done, so that a successor of a dead mover knows what
-- may exist, and what to finish or to take away.
--
-- Runnable in psql. The tenant's home is not decided here but in the source database (tenantry.move_gate): a
-- journal that is late is only late.

CREATE SEQUENCE tenantry.move_id_block;      -- each move gets a range of ids for its target's sequences

CREATE TABLE tenantry.move (
    id         text PRIMARY KEY CHECK (id ~ '^m[0-9a-f]{10}$'),
    tenant     text NOT NULL,
    source     text NOT NULL,
    target     text NOT NULL,
    state      text NOT NULL DEFAULT 'running'
               CHECK (state IN ('running', 'flipped', 'rolling_back', 'releasing', 'aborting',
                                'released', 'rolled_back', 'aborted')),
    step       text,                          -- the last step that is complete; NULL: none
    plan       jsonb NOT NULL,                -- tenantry.move.plan.MovePlan, as it was run
    result     jsonb NOT NULL DEFAULT '{}',   -- what was measured and found on the way
    error      text,                          -- why the last attempt stopped; NULL: it did not
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    flipped_at timestamptz,
    ended_at   timestamptz
);
COMMENT ON TABLE tenantry.move IS 'Moves of tenants between databases: the journal';

-- One unfinished move for each tenant: the second mover is refused by the database, not by a check that raced.
CREATE UNIQUE INDEX move_unfinished ON tenantry.move (tenant)
    WHERE state NOT IN ('released', 'rolled_back', 'aborted');

-- Every object that a move makes outside the journal, written and committed before the object is made.
CREATE TABLE tenantry.move_object (
    move       text NOT NULL REFERENCES tenantry.move ON DELETE CASCADE,
    database   text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('schema', 'rows', 'publication', 'slot', 'subscription')),
    name       text NOT NULL,
    intended_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz,                   -- removed again, or handed over to the tenant's home
    PRIMARY KEY (move, database, kind, name)
);
COMMENT ON TABLE tenantry.move_object IS 'What each move has made, or was about to make';
