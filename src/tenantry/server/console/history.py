"""The console's history: who used what of each database, by hour and by day, kept in memory.

An hour that is over is read once more after it, and then never again. Everything is read for all tenants at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tenantry import sql
from tenantry.server.console.values import NAMED, Slot
from tenantry.usage import shares
from tenantry.usage.shares import Shares

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

HOUR: Final = 3600.0
HOURS: Final = 24
DAYS: Final = 28
#: Hours back in which routers that were cut off still report.
_LATE: Final = 2
#: Part of an hour's total that must be known.
_KNOWN: Final = 0.5
#: Tenants of each hour and database that are read by name.
_READ: Final = 20


class Hours:
    """The last 24 hours and the present one. `refresh` often; it reads what may have changed."""

    # Mutable state: _slots, by hour and database. `refresh` changes it, which must not run twice at once.

    def __init__(self) -> None:
        self._slots: dict[int, dict[str, Slot]] = {}

    async def refresh(self, control: Pool, now: float) -> None:
        """Read the present hour, those before it that may still grow, and those that were never read."""
        present = int(now // HOUR * HOUR)
        wanted = [present - n * int(HOUR) for n in range(HOURS, -1, -1)]
        for hour in wanted:
            if hour not in self._slots or hour >= present - _LATE * HOUR:
                self._slots[hour] = await _hour(control, hour, known=min(now - hour, HOUR))
        self._slots = {hour: self._slots[hour] for hour in wanted}

    def by_database(self) -> dict[str, list[Slot]]:
        """Every database of which something is known; an hour without any use is there, and empty."""
        names = sorted({name for slots in self._slots.values() for name in slots})
        return {name: [slots.get(name) or _nothing(hour) for hour, slots in self._slots.items()] for name in names}


def _nothing(hour: int) -> Slot:
    return Slot(datetime.fromtimestamp(hour, UTC), {}, 0.0, 0.0, None)


async def _hour(control: Pool, hour: int, *, known: float) -> dict[str, Slot]:
    """Args:
    known: seconds of the hour that are over.
    """
    begin = datetime.fromtimestamp(hour, UTC)
    span = (begin, begin + timedelta(seconds=HOUR))
    totals = {
        row["database"]: (row["busy_seconds"], row["covered_seconds"])
        for row in await control.fetch(sql.query("server/totals"), *span)
    }
    used: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in await control.fetch(sql.query("server/hours"), *span, _READ, timeout=shares.LONG):
        used[row["database"]].append(dict(row))
    return {name: hour_slot(begin, used[name], totals.get(name), known) for name in {*totals, *used}}


def hour_slot(
    begin: datetime, rows: Sequence[Mapping[str, Any]], total: tuple[float, float] | None, known: float
) -> Slot:
    """One hour of one database. Pure.

    Where the tenants' seconds are more than the server's own, they are the whole: they have the way to it in them.

    Args:
        rows: as of sql/server/hours.sql.
        total: seconds executing, and seconds of the hour of which that is known; None: nothing is.
        known: seconds of the hour that are over.
    """
    busy = {row["tenant"]: row["busy"] for row in rows}
    attributed = sum(busy.values())
    counted = {
        "waited": sum(row["waited"] for row in rows),
        "transactions": sum(row["transactions"] for row in rows),
        "errors": sum(row["errors"] for row in rows),
    }
    if total is None or total[1] < _KNOWN * known:
        return Slot(begin, {}, 0.0, 0.0, None, **counted)
    whole = max(total[0], attributed)
    if whole <= 0:
        return Slot(begin, {}, 0.0, 0.0, 0.0, **counted)
    parts = {tenant: seconds / whole for tenant, seconds in busy.items() if tenant is not None}
    return Slot(begin, parts, busy.get(None, 0.0) / whole, 1 - attributed / whole, whole, **counted)


async def read_days(control: Pool, now: float) -> dict[str, list[Slot]]:
    """28 days of every database, today included: the shares that the rule judges."""
    today = datetime.fromtimestamp(now, UTC).date()
    first, until = today - timedelta(days=DAYS - 1), today + timedelta(days=1)
    return day_slots(await shares.load(control, first, until, top=NAMED))


def day_slots(loaded: Shares) -> dict[str, list[Slot]]:
    """A slot for each day of each database. Pure."""
    used: dict[tuple[str, Any, str], dict[str, Any]] = defaultdict(dict)
    for (tenant, database, day, source), use in loaded.used.items():
        used[database, day, source][tenant] = use
    found: dict[str, list[Slot]] = {}
    count = (loaded.until - loaded.first).days
    for database in sorted({name for name, _ in loaded.totals}):
        found[database] = []
        for day in (loaded.first + timedelta(days=n) for n in range(count)):
            begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
            total = loaded.totals.get((database, day))
            last = day == loaded.until - timedelta(days=1)  # not over: as far as it is known
            whole = None if total is None else total.executing if last else total.whole
            if total is None or not whole or whole <= 0:
                found[database].append(Slot(begin, {}, 0.0, 0.0, whole))
                continue
            uses = used[database, day, total.source]
            parts = {tenant: total.charged(use) / whole for tenant, use in uses.items()}
            known = (1.0 if last else total.executing / whole) - sum(parts.values())
            nobodys = min((total.nobodys or 0.0) * total.executing / whole, max(0.0, known))
            found[database].append(Slot(begin, parts, max(0.0, known - nobodys), nobodys, whole))
    return found


def largest(slots: Sequence[Slot], count: int = NAMED) -> list[str]:
    """The tenants with the largest shares over all slots, the largest first. Pure."""
    sums: dict[str, float] = defaultdict(float)
    for slot in slots:
        for tenant, share in slot.parts.items():
            sums[tenant] += share * (slot.busy or 0.0)
    return sorted(sums, key=lambda tenant: (-sums[tenant], tenant))[:count]


def together(slots: Sequence[Slot]) -> Slot | None:
    """Several slots as one; None: nothing is known of any. Pure."""
    known = [slot for slot in slots if slot.busy is not None]
    busy = sum(slot.busy or 0.0 for slot in known)
    if not known:
        return None
    parts: dict[str, float] = defaultdict(float)
    others = nobodys = 0.0
    for slot in known if busy else ():
        weight = (slot.busy or 0.0) / busy
        others += slot.others * weight
        nobodys += slot.nobodys * weight
        for tenant, share in slot.parts.items():
            parts[tenant] += share * weight
    return Slot(
        known[0].begin,
        dict(parts),
        others,
        nobodys,
        busy,
        sum(slot.waited for slot in slots),
        sum(slot.transactions for slot in slots),
        sum(slot.errors for slot in slots),
    )
