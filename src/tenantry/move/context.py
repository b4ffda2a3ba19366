"""What every step of a move is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tenantry.move.interrupt import Interrupt
from tenantry.move.journal import Journal
from tenantry.move.lease import Lease
from tenantry.move.limits import Limits
from tenantry.move.plan import MovePlan
from tenantry.move.plan_format import directions
from tenantry.move.progress import Tell
from tenantry.move.session import Endpoint
from tenantry.move.throttle import Throttle

#: A regular expression of PostgreSQL's: every move's `MoveContext.reference_name`.
REFERENCE_NAMES: Final = "^tenantry_m[0-9a-f]{10}_ref$"


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of a move: from where the tenant lives now to where it goes."""

    name: str
    """"forward" or "reverse", or what the plan's format says for them: in gates, markers and replication names."""
    is_forward: bool
    """True from the move's source to its target."""
    source: Endpoint
    """Where the tenant lives: publisher, place of the fence."""
    target: Endpoint
    """Where it goes: subscriber."""
    epoch: int
    """The tenant's epoch before this direction's flip."""


@dataclass(frozen=True, slots=True)
class MoveContext:
    """A move that is being run."""

    plan: MovePlan
    source: Endpoint
    target: Endpoint
    journal: Journal
    lease: Lease
    limits: Limits
    tell: Tell
    pg_dump: str | None
    interrupt: Interrupt = field(default_factory=Interrupt)
    throttle: Throttle = field(default_factory=lambda: Throttle(None))
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    """All databases that the mover reaches, by name: earlier moves may have tied others to these two."""

    @property
    def forward(self) -> Direction:
        """From the source to the target."""
        return Direction(directions(self.plan.version)[0], True, self.source, self.target, self.plan.epoch)

    @property
    def reverse(self) -> Direction:
        """From the target to the source, after the flip."""
        return Direction(directions(self.plan.version)[1], False, self.target, self.source, self.plan.epoch + 1)

    def replication_name(self, direction: Direction) -> str:
        """Name of a direction's publication, slot and subscription: it carries the move's id."""
        return f"tenantry_{self.plan.id}_{direction.name}"

    @property
    def reference_name(self) -> str:
        """Name of the objects that keep the reference tables in step."""
        return f"tenantry_{self.plan.id}_ref"
