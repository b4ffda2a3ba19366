"""Closes days, rolls hours into days, forgets what is past its time.

Everything here may run at any moment, at once in several processes, and again after a crash.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg

from tenantry.runtime import locks
from tenantry.sql import query
from tenantry.usage.coverage import Reporter, hour_coverage
from tenantry.usage.ledger import to_datetime
from tenantry.usage.meter import DAY, HOUR

#: Seconds that the work on one hour or day may take; a pool's own timeout is meant for short queries.
LONG: Final = 120.0


if TYPE_CHECKING:
    #: A pool, or one connection within a transaction.
    Control: TypeAlias = (
        asyncpg.Pool[asyncpg.Record]
        | asyncpg.Connection[asyncpg.Record]
        | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    )


class Retention(NamedTuple):
    """How long the ledger keeps what."""

    hours: int = 2
    """Complete days of which use per hour is kept; older hours are rolled into days."""
    days: int = 400
    """Days of which use per day is kept."""
    details: int = 35
    """Days of which totals, coverage and the witness's samples are kept per hour."""


RETENTION: Final = Retention()


def today(now: float) -> date:
    """The UTC day of a moment, seconds since 1970."""
    return to_datetime(now).date()


class Upkeep(NamedTuple):
    """What the upkeep did."""

    closed: tuple[date, ...]
    rolled: int
    """Rows of hours that became part of a day."""


async def reported(control: Control, first: date, days: int, now: float) -> list[float]:
    """How much of each day, from `first` on, the fleet was reporting: 0 to 1.

    Of the present day, that is the part of it that has passed.
    """
    start = int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp())
    end = start + days * DAY
    rows = await control.fetch(query("usage/reporters"), to_datetime(start))
    reporters = [Reporter(*row.values()) for row in rows]
    seconds: dict[int, dict[UUID, float]] = defaultdict(dict)
    for row in await control.fetch(
        "SELECT extract(epoch FROM hour)::bigint AS hour, reporter, seconds FROM tenantry.reported "
        "WHERE hour >= $1 AND hour < $2",
        to_datetime(start),
        to_datetime(end),
    ):
        seconds[row["hour"]][row["reporter"]] = row["seconds"]
    found = []
    for day in range(start, end, DAY):
        known = 0.0
        for hour in range(day, day + DAY, HOUR):
            present = max(0.0, min(now, hour + HOUR) - hour)
            known += present * hour_coverage(hour, reporters, seconds[hour], now)
        passed = min(now, day + DAY) - day
        found.append(min(1.0, known / passed) if passed > 0 else 0.0)
    return found


async def close_days(control: Control, now: float) -> tuple[date, ...]:
    """Work out the totals of every day that is not final, today's so far included."""
    days = [row["day"] for row in await control.fetch(query("usage/open_days"), today(now))]
    for day in days:
        (part,) = await reported(control, day, 1, now)
        await control.execute(query("usage/close_day"), day, part, now, timeout=LONG)
    return tuple(days)


async def keep_up(control: asyncpg.Pool[asyncpg.Record], now: float, retention: Retention = RETENTION) -> Upkeep:
    """Close the days, roll what is old enough, forget the rest. To be run every few minutes.

    Args:
        control: connections to the control database.
        now: seconds since 1970 UTC.
        retention: how long to keep what.
    """
    present = today(now)
    horizon = present - timedelta(days=retention.hours)
    async with control.acquire() as connection, connection.transaction():
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", locks.CLOSING_DAYS):
            return Upkeep((), 0)
        closed = await close_days(connection, now)
        # Final from here on: with its hours gone, a day can't be worked out again.
        await connection.execute(
            "UPDATE tenantry.database_usage_day SET final = true "
            "WHERE day < $1 AND source = 'measured' AND NOT final",
            horizon,
        )
    midnight = datetime(horizon.year, horizon.month, horizon.day, tzinfo=UTC)
    rolled = 0
    while rows := await control.fetchval(query("usage/roll_hour"), midnight, timeout=LONG):
        rolled += rows
    await control.execute(
        query("usage/forget"),
        present - timedelta(days=retention.days),
        to_datetime(now // DAY * DAY) - timedelta(days=retention.details),
        timeout=LONG,
    )
    return Upkeep(closed, rolled)
