"""What the console knows, as values. Filled by `reading`, judged by `verdict`, drawn by `charts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from tenantry.operations.check import CheckFinding
from tenantry.usage.sampler import Activity

#: Tenants of a chart that have a colour of their own.
NAMED = 5


class Slot(NamedTuple):
    """One hour or day of one database."""

    begin: datetime
    parts: Mapping[str, float]
    """Share by tenant, 0 to 1: the largest ones only."""
    others: float
    """Share of all other tenants."""
    nobodys: float
    """Share that is no tenant's: what did not come through a router."""
    busy: float | None
    """Seconds that the database was executing; None: too little is known of it."""
    waited: float = 0.0
    """Seconds that callers waited for a connection."""
    transactions: int = 0
    errors: int = 0

    @property
    def wait(self) -> float | None:
        """Mean seconds that a transaction waited for its connection; None: there was none."""
        return self.waited / self.transactions if self.transactions else None


class ReportingRouter(NamedTuple):
    """A process that reports to the ledger."""

    id: str
    started: datetime
    reported: datetime
    """Its use up to here is in the ledger."""
    stopped: datetime | None
    """It said good-bye; None: it did not."""


class Probe(NamedTuple):
    """How a database answered."""

    error: str | None = None
    """Why it did not; None: it did."""
    version: str | None = None
    bytes: int | None = None
    connections: int | None = None
    """To this database now, from anybody."""
    allowed: int | None = None
    """That its server lets in."""
    standby: bool = False
    """It takes no writes."""
    lag: int | None = None
    """Bytes that the standby furthest behind has not replayed; None: there is none, or our role may not see."""
    unknown: bool = False
    """True: no DSN of it is known on this machine, so it was not asked."""


class SchemaState(NamedTuple):
    """What `tenantry check` found of one database's schema."""

    version: int | None
    """Number of its last migration of tenantry's schema."""
    drift: bool
    """The product's schema differs from the other databases'."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What `tenantry check` found when it ran last."""

    at: datetime
    findings: tuple[CheckFinding, ...] = ()
    schemas: Mapping[str, SchemaState] = field(default_factory=dict)
    """By database."""
    error: str | None = None
    """Why it could not run."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read, besides the fleet's own numbers."""

    at: datetime | None = None
    """None: nothing has been read yet."""
    hours: Mapping[str, Sequence[Slot]] = field(default_factory=dict)
    """By database, the oldest first: the last 24 hours and the present one."""
    days: Mapping[str, Sequence[Slot]] = field(default_factory=dict)
    """By database, the oldest first: 28 days, today included."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What people call the tenants that are shown."""
    queues: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Callers that wait for a connection now, by database and tenant."""
    routers: tuple[ReportingRouter, ...] = ()
    probes: Mapping[str, Probe] | None = None
    """By database; None: they have not been asked yet."""
    checked: Checked | None = None
    """None: `tenantry check` has not run here yet."""
    sessions: Mapping[str, Sequence[Activity]] = field(default_factory=dict)
    """By database that this process watches: who is in it now."""

    @property
    def reporting(self) -> int:
        """Routers that have not left."""
        return sum(router.stopped is None for router in self.routers)
