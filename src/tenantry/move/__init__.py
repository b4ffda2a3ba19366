"""Carries one tenant from one database to another while it works: promote, demote, move.

Read `run.py` first: the list of steps is the procedure. `fence.py` has the one commit that matters.
"""

from tenantry.errors import UnknownDatabase
from tenantry.move.errors import (
    AlreadyThere,
    DataDiffers,
    LeaseLost,
    MoveBusy,
    MoveError,
    MoveInterrupted,
    MoveRefused,
    MoveStopped,
    PlanUnreadable,
    PreflightFinding,
    SchemaChanged,
    UnknownMove,
    WrongState,
)
from tenantry.move.interrupt import Interrupt
from tenantry.move.journal import Leftover, MoveRecord, MoveSummary
from tenantry.move.limits import Limits
from tenantry.move.mover import Mover
from tenantry.move.plan import Mechanism, MovePlan, TablePlan
from tenantry.move.progress import (
    Compared,
    CopyProgressed,
    Deleted,
    FenceTried,
    Following,
    Progress,
    Retrying,
    StepEnded,
    StepStarted,
)
from tenantry.move.session import Endpoint
from tenantry.move.states import State

__all__ = [
    "AlreadyThere",
    "Compared",
    "CopyProgressed",
    "DataDiffers",
    "Deleted",
    "Endpoint",
    "FenceTried",
    "Following",
    "Interrupt",
    "LeaseLost",
    "Leftover",
    "Limits",
    "Mechanism",
    "MoveBusy",
    "MoveError",
    "MoveInterrupted",
    "MovePlan",
    "MoveRecord",
    "MoveRefused",
    "MoveStopped",
    "MoveSummary",
    "Mover",
    "PlanUnreadable",
    "PreflightFinding",
    "Progress",
    "Retrying",
    "SchemaChanged",
    "State",
    "StepEnded",
    "StepStarted",
    "TablePlan",
    "UnknownDatabase",
    "UnknownMove",
    "WrongState",
]
