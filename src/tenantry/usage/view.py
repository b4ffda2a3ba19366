"""The fleet's counters as a scrape wants them: kept in memory, read by no query of their own.

`refresh` reads the ledger with a fixed number of queries, however many tenants there are. A tenant
has a label of its own if it was among the largest of the hour before; the set holds for the hour, so
series do not churn. Counters only grow: what a hour's set put into `_other` stays there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import asyncpg

from tenantry.sql import query
from tenantry.usage.coverage import Reporter, hour_coverage
from tenantry.usage.ledger import to_datetime
from tenantry.usage.meter import HOUR

OTHER: Final = "_other"


class Count(NamedTuple):
    """What one label has used since the view was made."""

    busy: float = 0.0
    """Seconds."""
    waited: float = 0.0
    """Seconds."""
    commits: int = 0
    rollbacks: int = 0
    errors: int = 0

    def plus(self, other: Count) -> Count:
        """Both."""
        return Count(
            self.busy + other.busy,
            self.waited + other.waited,
            self.commits + other.commits,
            self.rollbacks + other.rollbacks,
            self.errors + other.errors,
        )

    def less(self, other: Count) -> Count:
        """This without the other."""
        return Count(
            self.busy - other.busy,
            self.waited - other.waited,
            self.commits - other.commits,
            self.rollbacks - other.rollbacks,
            self.errors - other.errors,
        )


Counts = dict[tuple[str, str], Count]
#: Seconds back from now in which a database's total may still grow: a collector that was away makes up for it.
_LATE: Final = 48 * HOUR


class FleetView:
    """Counters per tenant label and per database. `refresh` every few seconds; read at any time."""

    # Mutable state: _sets (tenants with a label, by hour), _open (counts of the present hour and the
    # one before, read again at each refresh), _closed (all hours before those, less what was there at the first
    # refresh), the same for the databases, _begun, and coverage. Changed by `refresh` only, which must not run
    # twice at once.

    def __init__(self, *, top: int = 20) -> None:
        """Args:
        top: tenants that have a label of their own.
        """
        self.coverage: float | None = None
        """How much of the last complete hour the fleet was reporting; None: not read yet."""
        self._top = top
        self._sets: dict[int, list[str]] = {}
        self._open: dict[int, Counts] = {}
        self._closed: Counts = {}
        self._databases: dict[int, dict[str, float]] = {}
        self._databases_closed: dict[str, float] = defaultdict(float)
        self._begun = False

    @property
    def labels(self) -> frozenset[str]:
        """Tenants that have a label of their own now."""
        return frozenset(tenant for tenants in self._sets.values() for tenant in tenants)

    def tenants(self) -> Mapping[tuple[str, str], Count]:
        """Counters by label and database: a tenant's id, or `_other`."""
        return _sum([self._closed, *self._open.values()])

    def databases(self) -> Mapping[str, float]:
        """Seconds that each database was executing."""
        found = dict(self._databases_closed)
        for hour in self._databases.values():
            for database, busy in hour.items():
                found[database] = found.get(database, 0.0) + busy
        return found

    async def refresh(self, control: asyncpg.Pool[asyncpg.Record], now: float) -> None:
        """Read the present hour and the one before from the ledger.

        Args:
            control: connections to the control database.
            now: seconds since 1970 UTC.
        """
        present = int(now // HOUR) * HOUR
        hours = (present - HOUR, present)
        fresh: dict[int, Counts] = {}
        sets = {hour: await self._set(control, hour) for hour in hours}
        for hour in hours:
            rows = await control.fetch(query("usage/hour"), to_datetime(hour), sets[hour])
            fresh[hour] = {(row["label"], row["database"]): Count(*list(row.values())[2:]) for row in rows}
        databases: dict[int, dict[str, float]] = {
            hour: {} for hour in range(present - _LATE, present + HOUR, HOUR)
        }
        for row in await control.fetch(
            "SELECT extract(epoch FROM hour)::bigint AS hour, database, busy_seconds "
            "FROM tenantry.database_usage WHERE hour >= $1 AND hour <= $2",
            to_datetime(min(databases)),
            to_datetime(present),
        ):
            databases[row["hour"]][row["database"]] = row["busy_seconds"]
        self.coverage = await hour_reported(control, hours[0], now)
        if not self._begun:
            self._begin(fresh, databases)
        self._turn(sets, fresh, databases)

    def _begin(self, fresh: dict[int, Counts], databases: dict[int, dict[str, float]]) -> None:
        self._begun = True
        self._closed = {key: Count().less(count) for key, count in _sum(fresh.values()).items()}
        for hour in databases.values():
            for database, busy in hour.items():
                self._databases_closed[database] -= busy

    async def _set(self, control: asyncpg.Pool[asyncpg.Record], hour: int) -> list[str]:
        """Who has a label in that hour: the largest of the hour before, or of it if that is empty."""
        if hour in self._sets:
            return self._sets[hour]
        for of in (hour - HOUR, hour):
            rows = await control.fetch(query("usage/largest"), to_datetime(of), self._top)
            if rows:
                break
        return [row["tenant"] for row in rows]

    def _turn(
        self,
        sets: dict[int, list[str]],
        fresh: dict[int, Counts],
        databases: dict[int, dict[str, float]],
    ) -> None:
        closed = [self._open[hour] for hour in self._open if hour not in fresh]
        self._closed = _sum([self._closed, *closed])
        for hour in list(self._databases):
            if hour not in databases:
                for database, busy in self._databases.pop(hour).items():
                    self._databases_closed[database] += busy
        # A set that was empty, because nobody had used anything yet, is not held on to.
        self._sets = {hour: tenants for hour, tenants in sets.items() if tenants}
        self._open, self._databases = fresh, databases
        named = {tenant for tenants in sets.values() for tenant in tenants} | {OTHER}
        self._closed = {key: count for key, count in self._closed.items() if key[0] in named}


async def hour_reported(control: asyncpg.Pool[asyncpg.Record], hour: int, now: float) -> float:
    """How much of the hour the fleet was reporting, 0 to 1."""
    rows = await control.fetch(query("usage/reporters"), to_datetime(hour))
    seconds = await control.fetch(
        "SELECT reporter, seconds FROM tenantry.reported WHERE hour = $1", to_datetime(hour)
    )
    return hour_coverage(
        hour,
        [Reporter(*row.values()) for row in rows],
        {row["reporter"]: row["seconds"] for row in seconds},
        now,
    )


def _sum(many: Iterable[Counts]) -> Counts:
    found: Counts = {}
    for counts in many:
        for key, count in counts.items():
            there = found.get(key)
            found[key] = count if there is None else there.plus(count)
    return found
