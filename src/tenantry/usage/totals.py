"""The denominator: how long each database was executing statements, read from the server itself.

Load that did not come through a router (cron jobs, psql, other services) is in it. The server's
counter is cumulative, so a collector that was away loses nothing, unless the counter was reset.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

import asyncpg

from tenantry.errors import DatabaseUnavailable
from tenantry.runtime.connection_errors import DATABASE_ERRORS
from tenantry.sql import query
from tenantry.usage.ledger import split_by_hour, to_datetime
from tenantry.usage.meter import DAY, HOUR

#: Two readings within a day are this far apart at most for their difference to be called known hour
#: by hour; one that spans midnight may be this long.
_LONGEST: Final = 900.0
#: Seconds by which the wall clock may differ from the steady one before it is called a step.
_STEP: Final = 5.0


class Reading(NamedTuple):
    """One look at a database's counters."""

    busy: float
    """Seconds, cumulative."""
    at: float
    """The server's wall clock, seconds since 1970 UTC."""
    reset_at: float | None
    """When the counters were reset; None: never, or nobody knows."""
    started_at: float
    """When the server started."""
    sessions: float
    """More cumulative counters, which betray a reset that left no date: session milliseconds,"""
    transactions: int
    """transactions,"""
    blocks: int
    """and blocks touched."""


class HourTotal(NamedTuple):
    """What a database did in a part of an hour."""

    hour: int
    """Seconds since 1970 UTC, a multiple of 3600."""
    busy: float
    """Seconds that it was executing."""
    covered: float
    """Seconds of the hour of which that is known."""


def _was_reset(before: Reading, now: Reading) -> bool:
    if now.reset_at is not None and now.reset_at != before.reset_at:
        return True
    counters = zip(
        (before.busy, before.sessions, before.transactions, before.blocks),
        (now.busy, now.sessions, now.transactions, now.blocks),
        strict=True,
    )
    return any(new < old for old, new in counters)


def difference(before: Reading, now: Reading, *, elapsed: float | None = None) -> list[HourTotal]:
    """What the database did between two readings, cut at the hours.

    Busy seconds are spread evenly over the time between. What a reset or crash erased is not known,
    so the time before it is not covered; what was counted since is. Time that a stepping clock makes
    up or swallows is not covered.

    Args:
        before: the older reading.
        now: the newer one.
        elapsed: seconds between them by a steady clock, or None when there is none (another process
            made the older one).
    """
    busy, seconds = now.busy, now.at - before.at
    known = seconds
    if _was_reset(before, now):
        # Counted since the reset or the start; before that, what happened was erased.
        since = max(
            (at for at in (now.reset_at, now.started_at) if at is not None and at > before.at),
            default=None,
        )
        seconds = known = 0.0 if since is None else max(0.0, now.at - since)
    else:
        busy -= before.busy
    if elapsed is not None and abs(now.at - before.at - elapsed) > _STEP:
        seconds = known = min(elapsed, max(0.0, seconds))
    same_day = before.at // DAY == now.at // DAY
    if seconds > _LONGEST and not same_day:
        known = 0.0  # how much belongs to which day is a guess
    if seconds <= 0:
        return [HourTotal(int(now.at // HOUR) * HOUR, busy, 0.0)]
    return [
        HourTotal(hour, busy * piece / seconds, piece * known / seconds)
        for hour, piece in split_by_hour(now.at, seconds)
    ]


async def read(connection: asyncpg.Connection[asyncpg.Record]) -> Reading | None:
    """Look at the counters of the database that `connection` is on; None when they are turned off."""
    row = await connection.fetchrow(query("usage/read_total"))
    if row is None or not row["tracked"] or row["busy_seconds"] is None:
        return None
    return Reading(
        float(row["busy_seconds"]),
        row["at"],
        row["reset_at"],
        row["started_at"],
        float(row["sessions_ms"]),
        row["transactions"],
        row["blocks"],
    )


class Collector:
    """Keeps one database's totals in the control database. Several at once are harmless."""

    # Mutable state: _last (the version and monotonic time of our own last reading).

    def __init__(self, database: str, control: asyncpg.Pool[asyncpg.Record]) -> None:
        """Args:
        database: its name in the directory.
        control: connections to the control database.
        """
        self.database = database
        self._control = control
        self._last: tuple[int, float] | None = None

    async def collect(self, connection: asyncpg.Connection[asyncpg.Record], steady: float) -> list[HourTotal]:
        """Read the counters and add what happened since the last reading, whoever made that.

        Args:
            connection: on the database.
            steady: a monotonic clock's time, seconds.

        Returns:
            what was added: nothing the first time, or when another collector was faster.

        Raises:
            DatabaseUnavailable: for "control". The next reading makes up for it.
        """
        now = await read(connection)
        if now is None:
            return []
        row = await self._reading()
        version, parts = 0, list[HourTotal]()
        if row is not None:
            version = row["version"]
            mine = self._last is not None and self._last[0] == version
            elapsed = steady - self._last[1] if mine and self._last is not None else None
            parts = difference(Reading(**json.loads(row["reading"])), now, elapsed=elapsed)
        if not await self._put(version, now, parts):
            return []
        self._last = (version + 1, steady)
        return parts

    async def _reading(self) -> asyncpg.Record | None:
        try:
            return await self._control.fetchrow(
                "SELECT version, reading FROM tenantry.database_reading WHERE database = $1",
                self.database,
            )
        except DATABASE_ERRORS as error:
            raise DatabaseUnavailable("control", type(error).__name__) from error

    async def _put(self, version: int, now: Reading, parts: list[HourTotal]) -> bool:
        try:
            kept = await self._control.fetchval(
                query("usage/put_total"),
                self.database,
                version,
                json.dumps(now._asdict()),
                [to_datetime(part.hour) for part in parts],
                [part.busy for part in parts],
                [part.covered for part in parts],
            )
        except DATABASE_ERRORS as error:
            raise DatabaseUnavailable("control", type(error).__name__) from error
        return bool(kept)
