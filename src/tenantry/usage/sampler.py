"""The witness: looks at `pg_stat_activity` once a second and writes down whom it saw.

It is independent of the routers: it knows only the tag that scopes leave in `application_name`. It
also sees sessions without a tag, and what everybody waits for. See docs/explanation/usage.md for how its shares
and the ledger's differ.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from tenantry.errors import DatabaseUnavailable
from tenantry.runtime.connection_errors import DATABASE_ERRORS
from tenantry.sql import query
from tenantry.usage.ledger import to_datetime
from tenantry.usage.meter import HOUR

#: Difference of the two shares, beyond the sampling error, above which the figures disagree.
BOUND: Final = 0.05
_SIGMAS: Final = 3
_ACTIVE: Final = frozenset({"active", "fastpath function call"})


class Activity(NamedTuple):
    """Sessions of one tenant in one state on one database, at one moment."""

    tenant: str
    """Its id, "#" and a hash for an id that doesn't fit into the tag, or "" for nobody's."""
    state: str
    """As in `pg_stat_activity`; or "hidden": our role may not see it; or "starting": it has none yet."""
    wait: str
    """CPU, IO, Lock, LWLock, Client …"""
    sessions: int
    longest: float
    """Seconds since the longest running one's statement began."""

    @property
    def active(self) -> bool:
        """True for sessions that are executing."""
        return self.state in _ACTIVE


async def read_activity(connection: asyncpg.Connection[asyncpg.Record]) -> list[Activity]:
    """Who is on the connection's database now; where it has Citus, on the workers too."""
    citus = await connection.fetchval("SELECT to_regclass('pg_catalog.citus_stat_activity') IS NOT NULL")
    rows = await connection.fetch(query("usage/sample_citus" if citus else "usage/sample"))
    return [Activity(*row.values()) for row in rows]


class _Batch(NamedTuple):
    number: int
    until: float
    sessions: dict[tuple[int, str, str], int]
    samples: dict[int, int]
    last: bool


class SessionSampler:
    """What was seen on one database, until it is in the control database. Counted exactly once."""

    # Mutable state: _sessions and _samples (since the last freeze), _frozen (a batch whose outcome
    # is not known), _number (of the last batch), hidden.

    def __init__(
        self,
        database: str,
        control: asyncpg.Pool[asyncpg.Record],
        id: UUID,
        started: float,
    ) -> None:
        """Args:
        database: its name in the directory.
        control: connections to the control database.
        id: new and random, for this witness's life.
        started: seconds since 1970 UTC.
        """
        self.database = database
        self.hidden = 0
        """Sessions that the last look could not see into: grant pg_monitor."""
        self._control = control
        self._id = id
        self._started = started
        self._number = 0
        self._frozen: _Batch | None = None
        self._sessions: Counter[tuple[int, str, str]] = Counter()
        self._samples: Counter[int] = Counter()

    def record(self, activity: Iterable[Activity], at: float) -> None:
        """Write down one look.

        Args:
            activity: what `read_activity` returned.
            at: when, seconds since 1970 UTC.
        """
        hour = int(at // HOUR) * HOUR
        self._samples[hour] += 1
        self.hidden = 0
        for some in activity:
            if some.active:
                self._sessions[hour, some.tenant, some.wait] += some.sessions
            elif some.state == "hidden":
                self.hidden += some.sessions

    async def flush(self, now: float, *, last: bool = False) -> None:
        """Write what was seen to the control database.

        Raises:
            DatabaseUnavailable: for "control". Nothing is lost: the next flush goes on from there.
        """
        if self._frozen is not None:
            await self._send(self._frozen)
        if self._samples or last:
            self._number += 1
            self._frozen = _Batch(self._number, now, self._sessions, self._samples, last)
            self._sessions, self._samples = Counter(), Counter()
            await self._send(self._frozen)

    async def _send(self, batch: _Batch) -> None:
        keys = sorted(batch.sessions)
        hours = sorted(batch.samples)
        try:
            await self._control.fetchval(
                query("usage/count_samples"),
                self._id,
                batch.number,
                to_datetime(self._started),
                to_datetime(batch.until),
                to_datetime(batch.until) if batch.last else None,
                self.database,
                [to_datetime(hour) for hour, _, _ in keys],
                [tenant for _, tenant, _ in keys],
                [wait for _, _, wait in keys],
                [batch.sessions[key] for key in keys],
                [to_datetime(hour) for hour in hours],
                [batch.samples[hour] for hour in hours],
            )
        except DATABASE_ERRORS as error:
            raise DatabaseUnavailable("control", type(error).__name__) from error
        self._frozen = None


@dataclass
class SampledSessions:
    """What was seen on one database in some hours."""

    samples: int
    sessions: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """Sum over the samples, by tenant, then by wait class; tenant "" is nobody's."""

    def seen(self, tenant: str) -> int:
        """Active sessions of the tenant, summed over the samples."""
        return sum(self.sessions.get(tenant, {}).values())

    @property
    def total(self) -> int:
        """All active sessions, summed over the samples."""
        return sum(self.seen(tenant) for tenant in self.sessions)

    def share(self, tenant: str) -> float | None:
        """The tenant's part of all active sessions; None when nothing was active."""
        total = self.total
        return self.seen(tenant) / total if total else None

    def disagrees(self, tenant: str, share: float, *, bound: float = BOUND) -> bool:
        """Is the ledger's `share` further from ours than the bound and three standard errors?"""
        mine = self.share(tenant)
        if mine is None:
            return False
        error = math.sqrt(max(mine * (1 - mine), 0.0) / self.total)
        return abs(mine - share) > bound + _SIGMAS * error


async def sampled_sessions(
    control: asyncpg.Pool[asyncpg.Record], begin: float, end: float
) -> dict[str, SampledSessions]:
    """What the witnesses saw, by database.

    Args:
        control: connections to the control database.
        begin: start of the first hour, seconds since 1970 UTC.
        end: end of the last one.
    """
    found: dict[str, SampledSessions] = {}
    for row in await control.fetch(query("usage/witnessed"), to_datetime(begin), to_datetime(end)):
        there = found.setdefault(row["database"], SampledSessions(row["samples"]))
        if row["tenant"] is not None:
            waits = there.sessions[row["tenant"]]
            waits[row["wait"]] = waits.get(row["wait"], 0) + row["sessions"]
    return found
