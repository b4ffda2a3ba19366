"""The move: what clients see of a flip under load.

One tenant goes to and fro between two servers that wait for the disk, while customers in a process of their own
ask through a router, at fixed rates that leave the cores room; the mover is in this process. The history checker
of the fault tests counts failed, lost and doubled requests afterwards. Servers, mover and customers share this
machine. How fast rows are copied and compared: `benchmarks.move_data`.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final
from uuid import UUID

from benchmarks.contract import Options, Row, verdict
from benchmarks.customers import Customers
from tenantry.embedded import EmbeddedServer
from tenantry.move import FenceTried, Limits, Progress, State
from tests.support.estate import Estate
from tests.support.load import OK, History, Operation, Wrong, compare

#: Requests a second: of the tenant that moves, and of each of the others.
MINE, OTHERS = 40.0, 15.0
#: Other tenants on the shared database.
TENANTS: Final = 3
#: A flip counts for the requests of so many seconds before its fence is asked for and after its commit.
BEFORE, AFTER = 0.1, 1.0
#: Seconds between two moves, and before the first: as long as a flip counts, and more.
REST: Final = 1.5
CALM: Final = 10.0


@dataclass
class Flips:
    """When the tenant was fenced."""

    windows: list[tuple[float, float]] = field(default_factory=list)
    """Monotonic seconds, from and to, of each flip."""
    fences: list[float] = field(default_factory=list)
    """Seconds from asking for the lock to the commit's answer."""
    missed: int = 0

    def tell(self, event: Progress) -> None:
        """What the mover says."""
        if isinstance(event, FenceTried) and event.flipped:
            now = time.monotonic()
            self.fences.append(event.pause)
            self.windows.append((now - event.pause - BEFORE, now + AFTER))
        elif isinstance(event, FenceTried):
            self.missed += 1


async def run(options: Options) -> list[Row]:
    """The pause, and what the other tenants saw."""
    with (
        EmbeddedServer.start(options.version, durable=True) as near,
        EmbeddedServer.start(options.version, durable=True) as far,
        tempfile.TemporaryDirectory() as folder,
    ):
        estate = await Estate.make(near, far, tenants=1 + TENANTS)
        return await pauses(estate, 4 if options.quick else 50, Path(folder) / "history")


async def pauses(estate: Estate, flips: int, file: Path) -> list[Row]:
    """Flips to and fro under load."""
    mover, seen = estate.mover(limits=Limits()), Flips()
    busy = busy_seconds()
    rates = {tenant: MINE if tenant == estate.tenant else OTHERS for tenant in estate.tenants}
    customers = await Customers.start(estate.sections(), rates, file)
    started = time.monotonic()
    try:
        await asyncio.sleep(CALM)
        moved = time.monotonic()
        for _ in range(flips // 2):
            record = await mover.run(await mover.plan(estate.tenant, "acme"), seen.tell)
            await asyncio.sleep(REST)
            assert (await mover.rollback(record.id, seen.tell)).state is State.ROLLED_BACK
            await asyncio.sleep(REST)
        ended = time.monotonic()
        history = await customers.stop()
    finally:
        customers.kill()
    load = (busy_seconds() - busy) / (time.monotonic() - started)
    return [
        _pause(history, estate.tenant, seen, load),
        _wrong(history, await compare(estate, history)),
        _neighbours(history, estate.tenant, moved, ended),
    ]


def _pause(history: History, tenant: UUID, seen: Flips, load: float) -> Row:
    mine = history.operations(tenant)
    paused = [longest(mine, *window) for window in seen.windows]
    calm = [longest(mine, *window) for window in _between(seen.windows)]
    worst, p99 = max(paused), quantile(paused, 0.99)
    return Row(
        "client-seen pause at the flip, under load",
        f"p50 {ms(quantile(paused, 0.5))}, p99 {ms(p99)}, longest {ms(worst)}",
        "p99 at most 250 ms, never above 800 ms",
        verdict(p99 <= 0.25 and worst <= 0.8),
        beside=f"the fence itself p50 {ms(quantile(seen.fences, 0.5))}, longest {ms(max(seen.fences))}; "
        f"in as long windows without a flip p50 {ms(quantile(calm, 0.5))}, longest {ms(max(calm))}",
        note=f"{len(paused)} flips, half of them rollbacks, {seen.missed} more fences missed; of each the slowest "
        f"request of the tenant from {BEFORE:g} s before the fence to {AFTER:g} s after the commit; {MINE:g} "
        f"requests a second of the tenant and {OTHERS:g} of each of {TENANTS} others; the machine was {load:.1f} "
        "cores busy",
        figures={
            "p50_s": quantile(paused, 0.5),
            "p99_s": p99,
            "longest_s": worst,
            "fence_p50_s": quantile(seen.fences, 0.5),
            "fence_longest_s": max(seen.fences),
            "without_flip_p50_s": quantile(calm, 0.5),
            "without_flip_longest_s": max(calm),
            "missed_fences": float(seen.missed),
            "busy_cores": load,
        },
    )


def _wrong(history: History, wrong: Wrong) -> Row:
    found = {"failed": len(wrong.failed), "lost": len(wrong.lost), "doubled": len(wrong.doubled)}
    others = len(wrong.refused) + len(wrong.halved)
    answered = sum(operation.outcome == OK for operation in history.asked)
    return Row(
        "failed requests, lost and doubled writes over those flips",
        ", ".join(f"{count} {name}" for name, count in found.items()),
        "0, 0, 0",
        verdict(answered > 0 and not any(found.values()) and not others),
        beside=f"{answered} requests answered",
        note="every request has an id; the databases are compared with what the customers were told",
        figures={**found, "answered": float(answered)},
    )


def _neighbours(history: History, tenant: UUID, moved: float, ended: float) -> Row:
    others = [operation for operation in history.asked if operation.tenant != tenant]
    before = [taken(o) for o in others if o.ended < moved]
    during = [taken(o) for o in others if moved <= o.started < ended]
    ratio = quantile(during, 0.99) / quantile(before, 0.99)
    return Row(
        "the other tenants' p99 while one tenant moves",
        f"{ms(quantile(during, 0.99))}, {ratio:.1f} x before",
        "at most 2 x",
        verdict(ratio <= 2),
        beside=f"{ms(quantile(before, 0.99))} before",
        note=f"{len(before)} requests in {CALM:g} s before, {len(during)} during; they share the cores with the "
        "copying, the comparing and the second server",
        figures={"before_s": quantile(before, 0.99), "during_s": quantile(during, 0.99)},
    )


def taken(operation: Operation) -> float:
    """Seconds from the moment at which it was due."""
    return operation.ended - operation.started


def longest(operations: list[Operation], start: float, end: float) -> float:
    """Seconds of the slowest request that was under way between two moments."""
    return max((taken(o) for o in operations if o.ended >= start and o.started <= end), default=0.0)


def _between(windows: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """As long windows, each half-way between two flips, as far as they fit."""
    found = []
    for (_, ended), (next_start, next_end) in pairwise(windows):
        length = next_end - next_start
        middle = (ended + next_start) / 2
        if next_start - ended > length:
            found.append((middle - length / 2, middle + length / 2))
    return found or [(windows[0][0] - AFTER, windows[0][0])]


def quantile(values: list[float], part: float) -> float:
    """By interpolation between the sorted values."""
    return statistics.quantiles(values, n=100, method="inclusive")[round(part * 100) - 1]


def ms(seconds: float) -> str:
    """For people."""
    return f"{seconds * 1000:.0f} ms"


def busy_seconds(read: Callable[[Path], str] = Path.read_text) -> float:
    """Seconds that all cores together have worked since the machine began, whoever for."""
    user, nice, system, _idle, _wait, irq, softirq, steal, *_ = read(Path("/proc/stat")).split("\n")[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / 100
