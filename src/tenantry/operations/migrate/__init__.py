"""Migrations of the product's schema over all databases: one command, a canary, a journal.

`migrations.py` is called by operators; `survey.py` looks before anything is touched, `run.py` does it,
`command.py` and `supervise.py` run the command for one database, `journal.py` keeps in the control database what
happened.
"""

from tenantry.operations.migrate.migrations import Migrations
from tenantry.operations.migrate.values import (
    DatabaseRun,
    MigrateEvent,
    MigrateOptions,
    MigratePlan,
    MigrateRun,
    MigrationStopped,
    RunState,
    TurnState,
)

__all__ = [
    "DatabaseRun",
    "MigrateEvent",
    "MigrateOptions",
    "MigratePlan",
    "MigrateRun",
    "MigrationStopped",
    "Migrations",
    "RunState",
    "TurnState",
]
