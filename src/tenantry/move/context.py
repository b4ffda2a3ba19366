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
from tenantry.move.progress import Tell
from tenantry.move.session import Endpoint
from tenantry.move.throttle import Throttle

#: A regular expression of PostgreSQL's: every move's `Work.reference_name`.
REFERENCE_NAMES: Final = "^tenantry_m[0-9a-f]{10}_ref$"


@dataclass(frozen=True, slots=True)
class Way:
    """One direction of a move: from where the tenant lives now to where it goes."""

    direction: str
    """"out" (source to target) or "back" (target to source)."""
    here: Endpoint
    """Where the tenant lives: publisher, place of the fence."""
    there: Endpoint
    """Where it goes: subscriber."""
    epoch: int
    """The tenant's epoch before this way's flip."""


@dataclass(frozen=True, slots=True)
class Work:
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
    def out(self) -> Way:
        """From the source to the target."""
        return Way("out", self.source, self.target, self.plan.epoch)

    @property
    def back(self) -> Way:
        """From the target to the source, after the flip."""
        return Way("back", self.target, self.source, self.plan.epoch + 1)

    def name(self, way: Way) -> str:
        """Name of this way's publication, slot and subscription: it carries the move's id."""
        return f"tenantry_{self.plan.id}_{way.direction}"

    @property
    def reference_name(self) -> str:
        """Name of the objects that keep the reference tables in step."""
        return f"tenantry_{self.plan.id}_ref"
