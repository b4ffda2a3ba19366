"""Turns the ledger into shares: each tenant's part of each database, day by day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Final, NamedTuple

import asyncpg

from tenantry.ids import Kind
from tenantry.sql import query
from tenantry.usage.meter import DAY
from tenantry.usage.values import Day, History

#: A day of which less than this part of the denominator is known has no total at all. Above it, what
#: is not known is presumed to be like the rest of the day.
LEAST_COVERED: Final = 0.95
_KINDS: Final = "SELECT name, kind FROM tenantry.database"
#: Seconds that reading a window of the ledger may take.
LONG: Final = 60.0


class Total(NamedTuple):
    """What one database did on one day."""

    busy: float
    """Seconds that it was executing, as far as known."""
    covered: float
    """How much of the day of the denominator is known, by hours of which all is known: 0 to 1."""
    reported: float
    """How much of the day the fleet was reporting, 0 to 1."""
    source: str
    attributed: float = 0.0
    """Seconds of `busy` that are some tenant's; the rest did not come through a router."""
    excess: float = 0.0
    """Seconds of both that the server knows nothing of: the way to it, and delays in the routers' processes."""
    statements: int = 0
    """Over which `excess` is spread."""

    @property
    def executing(self) -> float:
        """Seconds that it was executing by its own account, as far as known."""
        return self.busy - self.excess

    @property
    def nobodys(self) -> float | None:
        """The part that is no tenant's, 0 to 1; None when the database did nothing."""
        if self.executing <= 0:
            return None
        return max(0.0, 1.0 - (self.attributed - self.excess) / self.executing)

    @property
    def whole(self) -> float | None:
        """Seconds of the whole day, or None when too little is known."""
        return self.executing / self.covered if self.covered >= LEAST_COVERED else None

    @property
    def unseen(self) -> float:
        """Seconds of the day of which the denominator is not known."""
        return round(DAY * max(0.0, 1.0 - self.covered), 3)  # sums of floats are not exactly 1

    def charged(self, used: Used | None) -> float:
        """Seconds of `executing` that are this use's.

        A statement takes the same time on the way however short it is, so that time is taken off by the statement.
        What is taken off is the least that it can have been: all that the tenants have above the server's figure.
        """
        if used is None:
            return 0.0
        if not self.statements:
            return used.busy
        each = self.excess / self.statements
        return min(max(0.0, used.busy - each * used.statements), self.executing)

    @property
    def coverage(self) -> float:
        """How much of the day is known from both sides."""
        return min(self.covered, self.reported)


class Used(NamedTuple):
    """What one tenant used of one database on one day."""

    busy: float
    held: float
    waited: float
    commits: int
    rollbacks: int
    errors: int
    statements: int


class Home(NamedTuple):
    """Where a tenant lives."""

    database: str
    kind: Kind
    since: date
    """UTC day on which it came there."""


@dataclass(frozen=True)
class Shares:
    """The ledger of some days, for the tenants that matter."""

    first: date
    until: date
    """The first day that is not in it any more."""
    totals: Mapping[tuple[str, date], Total]
    """By database and day."""
    used: Mapping[tuple[str, str, date, str], Used]
    """By tenant, database, day and source."""
    homes: Mapping[str, Home]
    """By tenant."""
    kinds: Mapping[str, Kind]
    """By database of the directory."""

    def days(self, tenant: str, database: str) -> dict[date, Day]:
        """The tenant's days in that database: those of which a total was recorded."""
        found = {}
        for number in range((self.until - self.first).days):
            day = self.first + timedelta(days=number)
            total = self.totals.get((database, day))
            if total is not None:
                used = self.used.get((tenant, database, day, total.source))
                found[day] = Day(day, total.charged(used), total.whole, total.coverage, total.source, total.unseen)
        return found

    def so_far(self, tenant: str, database: str, day: date) -> float | None:
        """The tenant's share of a day that is not over, as far as it is known; None: nothing is."""
        total = self.totals.get((database, day))
        if total is None or total.executing <= 0:
            return None
        return total.charged(self.used.get((tenant, database, day, total.source))) / total.executing

    def history(self, tenant: str) -> History:
        """The tenant's days where it lives now: what the rule wants.

        Raises:
            KeyError: the directory has no such tenant.
        """
        home = self.homes[tenant]
        days = self.days(tenant, home.database)
        return History(tenant, home.database, home.kind, self._since(tenant, home, days), days)

    def _since(self, tenant: str, home: Home, days: Mapping[date, Day]) -> date:
        """The day on which it came. Use is the better witness: a row made anew (imported history, a directory
        restored) says that the tenant came only then. But not use before a time that it spent elsewhere.
        """
        elsewhere = self._elsewhere.get(tenant, date.min)
        used = [day for day, of in days.items() if of.busy > 0 and elsewhere < day < home.since]
        return max(elsewhere, min(used) - timedelta(days=1)) if used else home.since

    @cached_property
    def _elsewhere(self) -> Mapping[str, date]:
        """The last day on which a tenant used another database than its home."""
        found: dict[str, date] = {}
        for (tenant, database, day, _), used in self.used.items():
            home = self.homes.get(tenant)
            if home is not None and database != home.database and used.busy > 0:
                found[tenant] = max(day, found.get(tenant, day))
        return found

    def database(self, name: str, kind: Kind = Kind.SHARED) -> History:
        """The days of a whole database: what demotion advice is measured against."""
        return History("", name, kind, None, self.days("", name))


async def load(
    control: asyncpg.Pool[asyncpg.Record],
    first: date,
    until: date,
    *,
    tenants: Iterable[str] | None = None,
    near: float = 0.1,
    top: int = 20,
) -> Shares:
    """Read the ledger from day `first` to before `until`: five queries, however many tenants.

    Run `upkeep.close_days` before, so that the days' totals are there.

    Args:
        control: connections to the control database.
        first: first UTC day.
        until: first UTC day that is not wanted.
        tenants: whom to load; None: those near the rule and the largest ones.
        near: share on any day above which a tenant is loaded.
        top: so many of each database are loaded in any case.
    """
    if tenants is None:
        rows = await control.fetch(query("usage/leaders"), first, until, near, top, timeout=LONG)
        tenants = [row["tenant"] for row in rows]
    wanted = sorted(set(tenants))
    totals = {
        (row["database"], row["day"]): Total(
            row["busy_seconds"],
            row["covered"],
            row["reported"],
            row["source"],
            row["attributed_seconds"],
            row["excess_seconds"],
            row["excess_statements"],
        )
        for row in await control.fetch(query("usage/totals"), first, until)
    }
    used = {
        (row["tenant"], row["database"], row["day"], row["source"]): Used(*list(row.values())[4:])
        for row in await control.fetch(query("usage/days"), first, until, wanted, timeout=LONG)
    }
    homes = {
        row["id"]: Home(row["database"], Kind(row["kind"]), row["since"])
        for row in await control.fetch(query("usage/homes"), wanted)
    }
    kinds = {row["name"]: Kind(row["kind"]) for row in await control.fetch(_KINDS)}
    return Shares(first, until, totals, used, homes, kinds)
