"""What metering takes from throughput: two routers by turns on one server, one with meter and ledger, one without.

Two per cent of a rate is less than the noise of a busy machine, so there is a second figure: one caller takes
scopes of one router in pairs, with the meter listening and without, and the processor time of each single scope
is measured. Its median over some thousand scopes moves little, whatever else the machine does. The ledger
flushes between the rounds; the processor time of that is added to both figures, as a flush every five seconds
costs.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from benchmarks import sides, stage
from benchmarks.checkout import CONNECTIONS, TENANTS, fill
from benchmarks.contract import Options, Row, verdict
from benchmarks.rounds import Work, throughput
from tenantry import Config, Router
from tenantry.config import UsageSection
from tenantry.directory import Store
from tenantry.events import Events, ScopeEnded
from tenantry.usage import Ledger, Meter
from tenantry.usage.ledger import FLUSH_SECONDS

BOUND: Final = 0.02
CALLERS: Final = (8, 32)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two routers."""

    work: Work
    flush: Callable[[], Awaitable[object]] | None
    """Of its ledger; None: it is not metered."""


@dataclass(slots=True)
class Rounds:
    """What the rounds gave, one figure each."""

    rates: list[float] = field(default_factory=list)
    """Scopes per second."""
    processor: list[float] = field(default_factory=list)
    """Seconds of this process's processor time per scope."""
    flushes: list[float] = field(default_factory=list)
    """Seconds of this process's processor time for writing the round's use."""


async def run(options: Options) -> list[Row]:
    """A row for each number of callers, and one for processor time."""
    rounds, seconds, pairs = (3, 0.2, 300) if options.quick else (400, 0.15, 8000)
    found = {}
    with stage.server(options.version) as server:
        scene = await stage.prepare(server)
        errands = await fill(scene)
        async with contestants(scene, errands) as (plain, metered, events):
            for callers in CALLERS:
                found[callers] = await by_turns(plain, metered, callers, rounds, seconds)
            scopes = await single_scopes(metered, events, pairs)
    flush = statistics.median(found[CALLERS[0]][1].flushes) / FLUSH_SECONDS
    how = f"{rounds} pairs of rounds of {seconds} s by turns"
    lines = [lost(callers, *pair, flush, how) for callers, pair in found.items()]
    busiest = found[CALLERS[-1]][0]
    rate, usual = statistics.median(busiest.rates), statistics.median(busiest.processor)
    return [*lines, added(*scopes, flush / rate + adding(), usual, clocks())]


@asynccontextmanager
async def contestants(scene: stage.Stage, errands: sides.Errands) -> AsyncIterator[tuple[Side, Side, Events]]:
    """A router without a meter, and one with meter and ledger and its events; warm."""
    config: Config = scene.config(size=CONNECTIONS).model_copy(update={"usage": UsageSection(record=False)})
    query = "SELECT id, name FROM ours WHERE id = $1"

    def working(router: Router) -> Work:
        async def work(caller: int, turn: int) -> None:
            tenant, row = errands[(caller * 7919 + turn) % len(errands)]
            async with router.tenant(tenant) as connection:
                found = await connection.fetchrow(query, row)
            assert found is not None

        return work

    async with AsyncExitStack() as opened:
        plain = await opened.enter_async_context(Router.open(config, metrics=False))
        meter = Meter()
        metered = await opened.enter_async_context(Router.open(config, metrics=False, sinks=(meter,)))
        store = Store(scene.owner_dsn)
        opened.push_async_callback(store.close)
        ledger = Ledger(meter, await store.pool(), uuid4())
        opened.push_async_callback(ledger.close)
        yield Side(working(plain), None), Side(working(metered), ledger.flush), metered.events


async def by_turns(plain: Side, metered: Side, callers: int, rounds: int, seconds: float) -> tuple[Rounds, Rounds]:
    """The rounds of both; who begins changes. The first pair is not counted."""
    found = (Rounds(), Rounds())
    for number in range(rounds + 1):
        turn = ((plain, found[0]), (metered, found[1]))
        for side, into in turn if number % 2 else turn[::-1]:
            spent, began = time.process_time(), time.perf_counter()
            rate = await throughput(side.work, callers, seconds)
            per_scope = (time.process_time() - spent) / (rate * (time.perf_counter() - began))
            flush = await flushed(side)
            if number:
                into.rates.append(rate)
                into.processor.append(per_scope)
                into.flushes.append(flush)
    return found


async def single_scopes(side: Side, events: Events, pairs: int) -> tuple[list[float], list[float]]:
    """Processor seconds of single scopes without and with the meter, in pairs; chance says which comes first."""
    found: tuple[list[float], list[float]] = ([], [])
    sinks = events._sinks
    dice = random.Random(3)
    for number in range(pairs):
        for listening in (0, 1) if dice.random() < 0.5 else (1, 0):
            events._sinks = sinks if listening else ()
            spent = time.process_time()
            await side.work(0, number)
            found[listening].append(time.process_time() - spent)
        if number % 1000 == 0:
            await flushed(side)
    events._sinks = sinks
    return found


async def flushed(side: Side) -> float:
    """Processor seconds for writing what the meter has."""
    spent = time.process_time()
    if side.flush is not None:
        await side.flush()
    return time.process_time() - spent


def adding() -> float:
    """Seconds per scope for adding up, which the meter does for many at once and a median doesn't show."""
    meter, tenant, times, best = Meter(), uuid4(), 20_000, float("inf")
    event = ScopeEnded(tenant, "shared", "commit", 0.001, 0.002, 0.0, 1)
    for _ in range(5):
        began = time.process_time()
        for _ in range(times):
            meter(event)
        best = min(best, (time.process_time() - began) / times)
    return best


def clocks() -> float:
    """Seconds per scope that both sides spend on what the meter needs: two looks at the clock, and the event."""
    events, tenant, times, best = Events(), uuid4(), 20_000, float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(times):
            started = time.perf_counter()
            busy = time.perf_counter() - started
            events.emit(ScopeEnded(tenant, "shared", "commit", busy, busy, busy, 1))
        best = min(best, (time.process_time() - began) / times)
    return best


def lost(callers: int, plain: Rounds, metered: Rounds, flush: float, how: str) -> Row:
    """What is lost of the rate, as a part, and how unsure that is."""
    parts = [1 - (1 - flush) * a / b for a, b in zip(metered.rates, plain.rates, strict=True)]
    middle, unsure = statistics.median(parts), 2 * error_of(parts)
    low, _, high = statistics.quantiles(parts, n=4)
    more = [a / b - 1 for a, b in zip(metered.processor, plain.processor, strict=True)]
    return Row(
        f"metering: throughput lost, {callers} callers on {CONNECTIONS} connections",
        f"{middle:.1%} ±{unsure:.1%} ({statistics.median(metered.rates):,.0f}/s against "
        f"{statistics.median(plain.rates):,.0f}/s)",
        f"at most {BOUND:.0%}",
        verdict(middle <= BOUND),
        note=f"{TENANTS} tenants; {how}; middle half of the pairs {low:.1%} to {high:.1%}; processor time of the "
        f"router's process per scope {statistics.median(more):+.1%} ±{2 * error_of(more):.1%}"
        + ("; noisier than the bound, see the processor time" if unsure > BOUND else ""),
        figures={
            "lost": round(middle, 5),
            "unsure": round(unsure, 5),
            "processor added": round(statistics.median(more), 5),
        },
    )


def added(plain: list[float], metered: list[float], flush: float, base: float, fixed: float) -> Row:
    """What is added to a scope's processor time, as a part of what a scope takes while many callers wait.

    Args:
        flush, base, fixed: seconds per scope: for flushing, all told without a meter, for clocks and the event.
    """
    more = statistics.median(metered) - statistics.median(plain) + flush
    unsure = 2 * (error_of(inner(plain)) ** 2 + error_of(inner(metered)) ** 2) ** 0.5
    return Row(
        "metering: processor time of a scope, added",
        f"{more / base:.1%} ±{unsure / base:.1%} ({more * 1e6:.2f} of {base * 1e6:.0f} µs)",
        f"at most {BOUND:.0%}",
        verdict(more / base <= BOUND),
        note=f"medians of {len(plain):,} scopes each in pairs by one caller, as a part of a scope with "
        f"{CALLERS[-1]} callers; {flush * 1e6:.2f} µs for adding up and the flush. Both sides "
        f"look at the clock and make the event, {fixed * 1e6:.2f} µs that is not in the difference",
        figures={
            "added us": round(more * 1e6, 3),
            "scope us": round(base * 1e6, 2),
            "part": round(more / base, 5),
            "unsure": round(unsure / base, 5),
            "clocks and event us": round(fixed * 1e6, 3),
        },
    )


def inner(values: list[float]) -> list[float]:
    """Without the tenth at either end: other programs' turns on the processor are not the scope's."""
    tenth = len(values) // 10
    return sorted(values)[tenth : len(values) - tenth]


def error_of(values: Sequence[float]) -> float:
    """Standard error of the median, if the values were normal."""
    return float(1.2533 * statistics.stdev(values) / len(values) ** 0.5)
