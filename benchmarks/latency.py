"""How long a scope takes while the service is busy but not overrun, and what it costs in processor time, by part.

Arrivals do not wait for each other (an open loop): who comes while all connections are taken waits, and that is in
the figure, as it is for users.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter, process_time
from typing import Any, Final

import asyncpg

from benchmarks import checkout, sides, stage
from benchmarks.contract import Options, Row, verdict
from benchmarks.rounds import Work, throughput
from tenantry import Router

CALLERS: Final = 32
#: Of the load that saturates a side.
LOAD: Final = 0.6
#: Against the plain pool's 99th percentile.
BOUND: Final = 1.3
#: Microseconds of Python of the router's own, a scope.
OWN: Final = 20.0
OURS, PLAIN = checkout.TENANTRY, checkout.PLAIN


async def run(options: Options) -> list[Row]:
    """Latency at each side's own 60 %, at the same load, and the processor time."""
    rounds, seconds, scopes = (2, 0.3, 200) if options.quick else (11, 2.0, 4000)
    with stage.server(options.version) as server:
        scene = await stage.prepare(server)
        errands = await checkout.fill(scene)
        async with contestants(scene, errands) as works:
            most = {name: 0.0 for name in works}
            for _ in range(3):
                for name, work in works.items():
                    most[name] = max(most[name], await throughput(work, CALLERS, seconds / 2))
            own = await compare(works, {name: LOAD * rate for name, rate in most.items()}, rounds, seconds)
            same = await compare(works, dict.fromkeys(works, LOAD * most[OURS]), rounds, seconds)
        parts = await processor_time(scene, errands, scopes, rounds)
    how = f"{rounds} rounds of {seconds} s by turns, PostgreSQL {options.version}"
    return [
        latency_row("each at 60 % of what saturates it", own, f"{how}; {loads(most)}"),
        latency_row("both at 60 % of what saturates tenantry", same, f"{how}; {loads(most)}"),
        cost_row(parts, f"{rounds} rounds of {scopes} scopes by turns, one caller, the client's process only"),
    ]


@asynccontextmanager
async def contestants(scene: stage.Stage, errands: sides.Errands) -> AsyncIterator[dict[str, Work]]:
    """The two, open and warm."""
    async with AsyncExitStack() as opened:
        config = scene.config(size=checkout.CONNECTIONS)
        yield {
            OURS: await opened.enter_async_context(sides.tenantry(config, errands, "ours")),
            PLAIN: await opened.enter_async_context(
                sides.plain(scene.app_dsn, errands, "open", checkout.CONNECTIONS)
            ),
        }


async def compare(
    works: dict[str, Work], rates: dict[str, float], rounds: int, seconds: float
) -> dict[str, list[tuple[float, float]]]:
    """Median and 99th percentile in seconds, by side and round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    dice = random.Random(1)
    for number in range(rounds + 1):
        for name in (OURS, PLAIN) if number % 2 else (PLAIN, OURS):
            times = await arrivals(works[name], rates[name], seconds, dice)
            if number:
                found[name].append((statistics.median(times), statistics.quantiles(times, n=100)[98]))
    return found


async def arrivals(work: Work, rate: float, seconds: float, dice: random.Random) -> list[float]:
    """How long each took, of those that came at random times, so many a second in the mean."""
    times: list[float] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(number: int, came: float) -> None:
        await work(number % CALLERS, number)
        times.append(perf_counter() - came)

    began, due, number = perf_counter(), 0.0, 0
    while due < seconds:
        due += dice.expovariate(rate)
        while (left := began + due - perf_counter()) > 0:  # noqa: ASYNC110  (the time is what is waited for)
            await asyncio.sleep(left if left > 0.002 else 0)
        task = asyncio.create_task(one(number, began + due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
    await asyncio.gather(*tasks)
    return times


async def processor_time(
    scene: stage.Stage, errands: sides.Errands, scopes: int, rounds: int
) -> dict[str, list[tuple[float, float, float]]]:
    """Processor seconds of a scope in this process: entering, the statement, leaving."""
    async with AsyncExitStack() as opened:
        router = await opened.enter_async_context(
            Router.open(scene.config(size=checkout.CONNECTIONS), metrics=False)
        )
        pool = await opened.enter_async_context(asyncpg.create_pool(scene.app_dsn, min_size=1, max_size=1))
        found: dict[str, list[tuple[float, float, float]]] = {OURS: [], PLAIN: []}
        ways: dict[str, tuple[Callable[[Any], Any], str]] = {
            OURS: (router.tenant, "SELECT id, name FROM ours WHERE id = $1"),
            PLAIN: (lambda _: pool.acquire(), "SELECT id, name FROM open WHERE tenant_id = $2 AND id = $1"),
        }
        for number in range(rounds + 1):
            for name, (enter, query) in ways.items():
                spent = await _spent(enter, query, errands, scopes)
                if number:
                    found[name].append(spent)
        return found


async def _spent(
    enter: Callable[[Any], Any], query: str, errands: sides.Errands, scopes: int
) -> tuple[float, float, float]:
    entering = running = leaving = 0.0
    both = "$2" in query
    for number in range(scopes):
        tenant, row = errands[number % len(errands)]
        context = enter(tenant)
        began = process_time()
        connection = await context.__aenter__()
        entered = process_time()
        await (connection.fetchrow(query, row, tenant) if both else connection.fetchrow(query, row))
        ran = process_time()
        await context.__aexit__(None, None, None)
        left = process_time()
        entering, running, leaving = entering + entered - began, running + ran - entered, leaving + left - ran
    return entering / scopes, running / scopes, leaving / scopes


def loads(most: dict[str, float]) -> str:
    """What saturates each."""
    return ", ".join(f"{name} {rate:,.0f}/s at most" for name, rate in most.items())


def latency_row(where: str, found: dict[str, list[tuple[float, float]]], note: str) -> Row:
    """One claim about the 99th percentile."""
    ratios = [ours[1] / theirs[1] for ours, theirs in zip(found[OURS], found[PLAIN], strict=True)]
    ratio = statistics.median(ratios)
    figures = {
        f"{name} {label} ms": round(1000 * statistics.median(one[place] for one in times), 3)
        for name, times in found.items()
        for place, label in ((0, "p50"), (1, "p99"))
    }
    return Row(
        claim=f"99th percentile of a scope, against the {PLAIN}: {where}",
        measured=f"{ratio:.2f} x ({figures[f'{OURS} p99 ms']:.2f} ms against {figures[f'{PLAIN} p99 ms']:.2f} ms)",
        bound=f"at most {BOUND} x",
        verdict=verdict(ratio <= BOUND),
        beside=f"medians {figures[f'{OURS} p50 ms']:.2f} and {figures[f'{PLAIN} p50 ms']:.2f} ms",
        note=f"{note}; arrivals at random times, waiting included",
        figures={"ratio": round(ratio, 4), **figures},
    )


def cost_row(parts: dict[str, list[tuple[float, float, float]]], note: str) -> Row:
    """What a scope costs the service's process above what a plain pool costs it."""
    micro = {
        name: [1e6 * statistics.median(one[part] for one in rounds) for part in range(3)]
        for name, rounds in parts.items()
    }
    own = sum(micro[OURS]) - sum(micro[PLAIN])
    words = {name: "enter {:.0f}, statement {:.0f}, leave {:.0f}".format(*them) for name, them in micro.items()}
    return Row(
        claim="the router's own processor time a scope, above a plain pool's",
        measured=f"{own:.0f} µs ({words[OURS]})",
        bound=f"at most {OWN:.0f} µs",
        verdict=verdict(own <= OWN),
        beside=f"{PLAIN}: {words[PLAIN]}",
        note=note,
        figures={
            f"{name} {part} us": round(value, 1)
            for name, them in micro.items()
            for part, value in zip(("enter", "statement", "leave"), them, strict=True)
        },
    )
