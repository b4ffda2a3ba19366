"""One tenant keeps 300 slow requests waiting: what the others notice of it."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Final
from uuid import UUID

import asyncpg

from benchmarks import stage
from benchmarks.contract import Options, Row, verdict
from tenantry import Router

CONNECTIONS: Final = 10
OTHERS: Final = 20
CROWD: Final = 300
SLOW: Final = "SELECT pg_sleep(0.02)"
QUICK: Final = "SELECT name FROM ours WHERE id = 1"
PAUSE: Final = 0.05  # seconds between two requests of one of the others, on average

#: Runs one statement for one tenant.
Ask = Callable[[UUID, str], Awaitable[object]]


async def run(options: Options) -> list[Row]:
    """p99 of the others, alone and in the crowd, by turns; the same for asyncpg's pool."""
    rounds, seconds = (1, 2.0) if options.quick else (4, 6.0)
    tenants = stage.tenant_ids(OTHERS + 1)
    with stage.server(options.version) as server:
        scene = await stage.prepare(server)
        async with scene.owner() as owner:
            await stage.settle(owner, tenants)
            await stage.fill(owner, ("ours",), tenants, rows=1)
            await stage.protect(owner, "ours")
        found = {}
        for name, side in (("tenantry", tenantry), ("asyncpg's pool", asyncpg_pool)):
            alone: list[float] = []
            crowded: list[float] = []
            async with side(scene) as ask:
                await others(ask, tenants, 0.5)
                for _ in range(rounds):
                    alone += await others(ask, tenants, seconds)
                    crowded += await in_the_crowd(ask, tenants, seconds)
            found[name] = (p99(alone), p99(crowded), len(crowded))
    return [row(found, rounds, seconds)]


@asynccontextmanager
async def tenantry(scene: stage.Stage) -> AsyncIterator[Ask]:
    """Through the router."""
    async with Router.open(scene.config(size=CONNECTIONS), metrics=False) as router:
        yield lambda tenant, query: router.fetchval(tenant, query, timeout=120.0)


@asynccontextmanager
async def asyncpg_pool(scene: stage.Stage) -> AsyncIterator[Ask]:
    """Through a hand-written wrapper around asyncpg's pool."""
    async with asyncpg.create_pool(scene.app_dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:

        async def ask(tenant: UUID, query: str) -> object:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT set_config('app.current_tenant', $1, true)", str(tenant))
                return await connection.fetchval(query)

        yield ask


async def others(ask: Ask, tenants: list[UUID], seconds: float) -> list[float]:
    """Seconds that each request of the others took, from asking to having the answer."""
    times: list[float] = []
    stop = perf_counter() + seconds

    async def one(tenant: UUID, dice: random.Random) -> None:
        while perf_counter() < stop:
            await asyncio.sleep(dice.random() * 2 * PAUSE)
            started = perf_counter()
            await ask(tenant, QUICK)
            times.append(perf_counter() - started)

    await asyncio.gather(*(one(tenant, random.Random(n)) for n, tenant in enumerate(tenants[1:])))
    return times


async def in_the_crowd(ask: Ask, tenants: list[UUID], seconds: float) -> list[float]:
    """The same while the first tenant keeps so many requests in the air."""
    over = asyncio.Event()

    async def insist() -> None:
        while not over.is_set():
            await ask(tenants[0], SLOW)

    crowd = [asyncio.create_task(insist()) for _ in range(CROWD)]
    await asyncio.sleep(0.2)
    times = await others(ask, tenants, seconds)
    over.set()
    await asyncio.gather(*crowd)
    return times


def p99(times: list[float]) -> float:
    """Milliseconds."""
    return statistics.quantiles(times, n=100)[98] * 1e3


def row(found: dict[str, tuple[float, float, int]], rounds: int, seconds: float) -> Row:
    """The table's line."""
    alone, crowded, requests = found["tenantry"]
    pool_alone, pool_crowded, _ = found["asyncpg's pool"]
    ratio, pool_ratio = crowded / alone, pool_crowded / pool_alone
    return Row(
        f"p99 of {OTHERS} other tenants while one keeps {CROWD} requests of 20 ms waiting, pool of {CONNECTIONS}",
        f"{ratio:.1f} x ({alone:.1f} ms alone, {crowded:.1f} ms)",
        "at most 5 x their p99 alone",
        verdict(ratio <= 5),
        f"asyncpg's pool {pool_ratio:,.0f} x ({pool_alone:.1f} ms, {pool_crowded:,.0f} ms)",
        f"{rounds} x {seconds:.0f} s each way by turns, {requests} requests of the others in the crowd",
        {"ratio": ratio, "p99 milliseconds": crowded, "alone milliseconds": alone, "asyncpg ratio": pool_ratio},
    )
