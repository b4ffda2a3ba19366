"""Adds up what each scope cost, in memory, in less than a microsecond.

The meter is a sink of the router's events. It adds per UTC hour, database and tenant; a scope
counts in the hour in which it ended. `take` hands over what has been added since the last time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple
from uuid import UUID

from tenantry.events import Event, ScopeEnded
from tenantry.ids import TenantId

HOUR: Final = 3600
DAY: Final = 86400
#: Events that are added up together: between two flights the processor's caches hold others' data, and fetching
#: ours again for each scope costs several times what adding up does.
_AT_ONCE: Final = 64


class Cell:
    """What one tenant used, being added up."""

    __slots__ = (
        "busy",
        "commits",
        "errors",
        "held",
        "rollbacks",
        "statements",
        "tenant",
        "waited",
    )

    def __init__(self, tenant: TenantId) -> None:
        self.tenant = tenant
        self.busy = self.held = self.waited = 0.0
        self.commits = self.rollbacks = self.errors = self.statements = 0

    def add(self, other: Cell) -> None:
        """Add another cell of the same tenant."""
        self.busy += other.busy
        self.held += other.held
        self.waited += other.waited
        self.commits += other.commits
        self.rollbacks += other.rollbacks
        self.errors += other.errors
        self.statements += other.statements


#: By database, then by tenant; uuids by their number, because hashing a UUID costs as much as all
#: the rest of the meter.
_Hour = dict[str, dict[TenantId, Cell]]


class Use(NamedTuple):
    """What one tenant used of one database in one hour."""

    hour: int
    """Start of the hour: seconds since 1970-01-01 UTC, a multiple of 3600."""
    database: str
    tenant: str
    busy: float
    """Seconds that its statements were running."""
    held: float
    """Seconds that its scopes held connections."""
    waited: float
    """Seconds that its callers waited for their scopes."""
    commits: int
    rollbacks: int
    errors: int
    statements: int


#: An hour (seconds since 1970 UTC), a database, and what one tenant used of it then.
Entry = tuple[int, str, Cell]


def uses(entries: Iterable[Entry]) -> list[Use]:
    """Entries as values, sorted by hour, database and tenant."""
    return sorted(
        Use(
            hour,
            database,
            str(cell.tenant),
            cell.busy,
            cell.held,
            cell.waited,
            cell.commits,
            cell.rollbacks,
            cell.errors,
            cell.statements,
        )
        for hour, database, cell in entries
    )


class Meter:
    """Accumulates `ScopeEnded` events; every other event is ignored. A sink: call it with an event.

    Memory is bounded by tenants with use times hours since the last `take`; beyond `limit` entries
    the hours of a day are folded into its first one, so days stay exact and an outage of the
    control database costs at most one entry per tenant, database and day.
    """

    # Mutable state: _heard (events that are not added up yet), _now (the hour that is being filled) with its
    # bounds, _past (hours that ended before they were taken). Touched by methods that never await.

    def __init__(self, *, clock: Callable[[], float] = time.time, limit: int = 200_000) -> None:
        """Args:
        clock: seconds since 1970-01-01 UTC; may step.
        limit: entries of past hours above which hours are folded into days.
        """
        self._clock = clock
        self._limit = limit
        self._start = 0.0
        self._end = 0.0
        self._heard: list[ScopeEnded] = []
        self._now: _Hour = {}
        self._past: dict[int, _Hour] = {}

    def __call__(self, event: Event) -> None:
        """Count a scope. Never blocks, never raises."""
        if type(event) is not ScopeEnded:
            return
        if not self._start <= self._clock() < self._end:
            self._turn()
        self._heard.append(event)
        if len(self._heard) >= _AT_ONCE:
            self._add()

    def _add(self) -> None:
        """Add up what was heard: all of it ended in the present hour."""
        heard, self._heard = self._heard, []
        for tenant, database, outcome, busy, held, waited, statements in heard:
            try:
                cell = self._now[database][tenant.int if type(tenant) is UUID else tenant]
            except KeyError:
                cell = self._cell(database, tenant)
            cell.busy += busy
            cell.held += held
            cell.waited += waited
            cell.statements += statements
            if outcome == "commit":
                cell.commits += 1
            elif outcome == "rollback":
                cell.rollbacks += 1
            else:
                cell.errors += 1

    def __len__(self) -> int:
        """Entries that wait to be taken."""
        self._add()
        hours = (self._now, *self._past.values())
        return sum(len(tenants) for hour in hours for tenants in hour.values())

    def take(self) -> list[Entry]:
        """Hand over what was added since the last time, in no order. Cheap: it halts the event loop."""
        self._add()
        hours = self._past
        if self._now:
            hours = _merged(hours, int(self._start), self._now)
        self._now, self._past = {}, {}
        return [
            (hour, database, cell)
            for hour, databases in hours.items()
            for database, tenants in databases.items()
            for cell in tenants.values()
        ]

    def _cell(self, database: str, tenant: TenantId) -> Cell:
        key = tenant.int if type(tenant) is UUID else tenant
        return self._now.setdefault(database, {}).setdefault(key, Cell(tenant))

    def _turn(self) -> None:
        """The clock left the hour: forward as it should, or by a step in either direction."""
        self._add()
        if self._now:
            self._past = _merged(self._past, int(self._start), self._now)
            self._now = {}
            if sum(len(t) for hour in self._past.values() for t in hour.values()) > self._limit:
                self._past = _folded(self._past)
        start = int(self._clock() // HOUR) * HOUR
        self._start, self._end = float(start), float(start + HOUR)


def _merged(hours: dict[int, _Hour], start: int, more: _Hour) -> dict[int, _Hour]:
    into = hours.setdefault(start, {})
    for database, tenants in more.items():
        cells = into.setdefault(database, {})
        for key, cell in tenants.items():
            if (there := cells.setdefault(key, cell)) is not cell:
                there.add(cell)
    return hours


def _folded(hours: dict[int, _Hour]) -> dict[int, _Hour]:
    days: dict[int, _Hour] = {}
    for start in sorted(hours):
        _merged(days, start // DAY * DAY, hours[start])
    return days
