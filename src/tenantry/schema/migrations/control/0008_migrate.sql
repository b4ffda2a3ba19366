-- The journal of `tenantry migrate`: which command was run on which databases, and where each of them stands, so that
-- a run that was broken off goes on, and everybody knows who is behind.
--
-- Runnable in psql. Who is running one is told by advisory locks (tenantry.runtime.locks), which end with the process:
-- a row that says 'running' without its lock is of a process that has died.

CREATE TABLE tenantry.migrate_run (
    id         text PRIMARY KEY CHECK (id ~ '^r[0-9a-f]{10}$'),
    command    text NOT NULL,                 -- as a shell reads it, secrets taken out
    actor      text NOT NULL,
    state      text NOT NULL DEFAULT 'running'
               CHECK (state IN ('running', 'stopped', 'done', 'abandoned')),
    started_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX migrate_run_started ON tenantry.migrate_run (started_at);
COMMENT ON TABLE tenantry.migrate_run IS 'Runs of tenantry migrate: a command on every database';

CREATE TABLE tenantry.migrate_database (
    run         text NOT NULL REFERENCES tenantry.migrate_run ON DELETE CASCADE,
    database    text NOT NULL,
    position    int NOT NULL,                 -- its turn, from 0: the canary
    state       text NOT NULL DEFAULT 'waiting'
                CHECK (state IN ('waiting', 'running', 'done', 'failed', 'interrupted')),
    attempts    int NOT NULL DEFAULT 0,       -- how often the command was begun
    exit        int,                          -- its last exit code; NULL: none yet, or it was ended
    seconds     float8,                       -- the last attempt's
    error       text,                         -- why it is not done; NULL: nothing is known against it
    output      text,                         -- the end of what the command said, secrets taken out; NULL: it is done
    fingerprint text,                         -- of the schema afterwards
    rls_steps   int,                          -- what `rls plan` would do afterwards
    changed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run, database)
);
COMMENT ON TABLE tenantry.migrate_database IS 'Where each database of a run of tenantry migrate stands';
