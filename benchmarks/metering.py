"""What metering takes from throughput: one router, in pairs of short rounds, with the meter listening and without.

Two per cent of a rate is less than the noise of a busy machine, and less than what two routers differ by because
of where their connections' processes lie in memory. So there is one router, the rounds are short and many, and
chance says which of a pair comes first. As many pairs in which the meter listens to neither round show what the
method itself adds: their figure should be nothing. A second look is by processor time: one caller takes scopes in
pairs, and the median of some thousand single ones moves little, whatever else the machine does. The ledger flushes
between the pairs; the processor time of that is added to each figure, as a flush every five seconds costs.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple
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
#: Pairs of rounds from one flush to the next.
FLUSH_PAIRS: Final = 25


class Metered(NamedTuple):
    """A router whose meter can be deafened."""

    work: Work
    events: Events
    flush: Callable[[], Awaitable[object]]

    @contextmanager
    def listening(self, on: bool) -> Iterator[None]:
        """The meter hears the router, or not."""
        sinks = self.events._sinks
        self.events._sinks = sinks if on else ()
        try:
            yield
        finally:
            self.events._sinks = sinks


@dataclass(slots=True)
class Pairs:
    """What pairs of rounds gave; of each pair the first figure is without a meter."""

    rates: list[tuple[float, float]] = field(default_factory=list)
    """Scopes per second."""
    processor: list[float] = field(default_factory=list)
    """Seconds of this process's processor time per scope, in the rounds without."""
    flushes: list[float] = field(default_factory=list)
    """Seconds of this process's processor time for a flush."""


async def run(options: Options) -> list[Row]:
    """Two rows for each number of callers, and one for processor time."""
    pairs, seconds, scopes = (10, 0.1, 300) if options.quick else (1000, 0.02, 8000)
    found = {}
    with stage.server(options.version) as server:
        scene = await stage.prepare(server)
        errands = await fill(scene)
        async with contestant(scene, errands) as metered:
            for callers in CALLERS:
                found[callers] = [
                    await by_turns(metered, callers, pairs, seconds, listens) for listens in (True, False)
                ]
            singles = await single_scopes(metered, scopes)
    flush = statistics.median(found[CALLERS[0]][0].flushes) / FLUSH_SECONDS
    how = f"{pairs} pairs of rounds of {seconds} s on one router, in random order"
    lines = [
        row for callers, (heard, unheard) in found.items() for row in lost(callers, heard, unheard, flush, how)
    ]
    busiest = found[CALLERS[-1]][1]
    rate = statistics.median(plain for plain, _ in busiest.rates)
    return [*lines, added(*singles, flush / rate + adding(), statistics.median(busiest.processor), clocks())]


@asynccontextmanager
async def contestant(scene: stage.Stage, errands: sides.Errands) -> AsyncIterator[Metered]:
    """A router with meter and ledger."""
    config: Config = scene.config(size=CONNECTIONS).model_copy(update={"usage": UsageSection(record=False)})
    query = "SELECT id, name FROM ours WHERE id = $1"
    meter = Meter()
    async with AsyncExitStack() as opened:
        router = await opened.enter_async_context(Router.open(config, metrics=False, sinks=(meter,)))
        store = Store(scene.owner_dsn)
        opened.push_async_callback(store.close)
        ledger = Ledger(meter, await store.pool(), uuid4())
        opened.push_async_callback(ledger.close)

        async def work(caller: int, turn: int) -> None:
            tenant, row = errands[(caller * 7919 + turn) % len(errands)]
            async with router.tenant(tenant) as connection:
                found = await connection.fetchrow(query, row)
            assert found is not None

        yield Metered(work, router.events, ledger.flush)


async def by_turns(metered: Metered, callers: int, pairs: int, seconds: float, listens: bool) -> Pairs:
    """So many pairs of rounds; in one of each the meter listens, if it does at all. The first is not counted."""
    found, dice = Pairs(), random.Random(callers)
    for number in range(pairs + 1):
        rates, processor = [0.0, 0.0], [0.0, 0.0]
        for second in (0, 1) if dice.random() < 0.5 else (1, 0):
            with metered.listening(bool(second) and listens):
                spent, began = time.process_time(), time.perf_counter()
                rates[second] = await throughput(metered.work, callers, seconds)
                scopes = rates[second] * (time.perf_counter() - began)
                processor[second] = (time.process_time() - spent) / scopes
        if number:
            found.rates.append((rates[0], rates[1]))
            found.processor.append(processor[0])
        if number % FLUSH_PAIRS == 1:
            found.flushes.append(await flushed(metered))
    return found


async def single_scopes(metered: Metered, pairs: int) -> tuple[list[float], list[float]]:
    """Processor seconds of single scopes without and with the meter, in pairs; chance says which comes first."""
    found: tuple[list[float], list[float]] = ([], [])
    dice = random.Random(3)
    for number in range(pairs):
        for second in (0, 1) if dice.random() < 0.5 else (1, 0):
            with metered.listening(bool(second)):
                spent = time.process_time()
                await metered.work(0, number)
                found[second].append(time.process_time() - spent)
        if number % 1000 == 0:
            await flushed(metered)
    return found


async def flushed(metered: Metered) -> float:
    """Processor seconds for writing what the meter has."""
    spent = time.process_time()
    await metered.flush()
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


def lost(callers: int, heard: Pairs, unheard: Pairs, flush: float, how: str) -> list[Row]:
    """What is lost of the rate, as a part, and how unsure that is; and the same where no meter listened."""
    parts = [1 - (1 - flush) * metered / plain for plain, metered in heard.rates]
    middle, unsure = statistics.median(parts), error_of(parts)
    nothing = [1 - second / first for first, second in unheard.rates]
    null, null_unsure = statistics.median(nothing), error_of(nothing)
    low, _, high = statistics.quantiles(parts, n=4)
    rate = statistics.median(plain for plain, _ in heard.rates)
    where = f"{callers} callers on {CONNECTIONS} connections"
    return [
        Row(
            f"metering: throughput lost, {where}",
            f"{middle:.2%} ±{unsure:.2%} (of {rate:,.0f}/s)",
            f"at most {BOUND:.0%}",
            verdict(middle + unsure <= BOUND),
            note=f"{TENANTS} tenants; {how}; middle half of the pairs {low:.1%} to {high:.1%}; the flushes are "
            f"{flush:.2%} of it",
            figures={"lost": round(middle, 5), "unsure": round(unsure, 5), "flushes": round(flush, 5)},
        ),
        Row(
            f"metering: the same without a meter in either round, {where}",
            f"{null:.2%} ±{null_unsure:.2%}",
            "0: the method's own error",
            verdict(abs(null) <= BOUND / 4),
            figures={"lost": round(null, 5), "unsure": round(null_unsure, 5)},
        ),
    ]


def added(plain: list[float], metered: list[float], flush: float, base: float, fixed: float) -> Row:
    """What is added to a scope's processor time, as a part of what a scope takes while many callers wait.

    Args:
        flush, base, fixed: seconds per scope: for flushing, all told without a meter, for clocks and the event.
    """
    more = statistics.median(metered) - statistics.median(plain) + flush
    unsure = (error_of(plain) ** 2 + error_of(metered) ** 2) ** 0.5
    return Row(
        "metering: processor time of a scope, added",
        f"{more / base:.1%} ±{unsure / base:.1%} ({more * 1e6:.2f} of {base * 1e6:.0f} µs)",
        "",
        "shown",
        note="of the router's process alone, so a larger part than of the rate; "
        f"medians of {len(plain):,} scopes each in pairs by one caller, as a part of a scope with "
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


def error_of(values: Sequence[float]) -> float:
    """Half of the median's interval of 95 % confidence, by the ranks around it; assumes no distribution."""
    ranks, away = sorted(values), 0.98 * len(values) ** 0.5
    low, high = round(len(ranks) / 2 - away), round(len(ranks) / 2 + away)
    return float(ranks[min(high, len(ranks) - 1)] - ranks[max(low, 0)]) / 2
