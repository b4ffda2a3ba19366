"""Flights per scope with one query, counted on the wire by a proxy, with every safety on."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Final
from urllib.parse import urlsplit

from benchmarks import sides, stage
from benchmarks.contract import Options, Row, verdict
from benchmarks.rounds import Work
from tests.support.proxy import Proxy

CONNECTIONS: Final = 4


async def run(options: Options) -> list[Row]:
    """Alone, with callers waiting, and the hand-written wrapper."""
    turns = 50 if options.quick else 500
    with stage.server(options.version) as server:
        scene = await stage.prepare(server)
        tenants = stage.tenant_ids(20)
        async with scene.owner() as connection:
            await stage.settle(connection, tenants)
            await stage.fill(connection, ("ours", "simple"), tenants, rows=1)
            await stage.protect(connection, "ours")
            await stage.protect_simply(connection, "simple")
        errands = [(tenant, 1) for tenant in tenants]
        parts = urlsplit(scene.app_dsn)
        async with Proxy(parts.hostname or "", parts.port or 5432) as proxy:
            app = proxy.dsn(scene.app_dsn)
            ours = sides.tenantry(scene.config(size=CONNECTIONS, app_dsn=app), errands, "ours")
            async with ours as work:
                alone = await count(proxy, work, callers=1, turns=turns)
                waiting = await count(proxy, work, callers=CONNECTIONS * 8, turns=turns)
            shots = sides.one_shot(scene.config(size=CONNECTIONS, app_dsn=app), errands, "ours")
            async with shots as work:
                shot = await count(proxy, work, callers=1, turns=turns)
            by_hand: AbstractAsyncContextManager[Work] = sides.handwritten(app, errands, "simple", CONNECTIONS)
            async with by_hand as work:
                hand = await count(proxy, work, callers=1, turns=turns)
    return rows(alone, waiting, shot, hand)


async def count(proxy: Proxy, work: Work, *, callers: int, turns: int) -> float:
    """Flights per unit of work; connections are open and statements prepared before counting begins."""

    async def call(number: int, times: int) -> None:
        for turn in range(times):
            await work(number, turn)

    await asyncio.gather(*(call(number, 20) for number in range(callers)))
    before = proxy.flights
    each = max(1, turns // callers) if callers > 1 else turns
    await asyncio.gather(*(call(number, each) for number in range(callers)))
    return (proxy.flights - before) / (each * callers)


def rows(alone: float, waiting: float, shot: float, hand: float) -> list[Row]:
    """The table's lines. With callers waiting, the first and the last scopes of the run still pay two."""
    how = "counted on the wire by a proxy: a flight ends with the server's ReadyForQuery"
    beside = f"hand-written wrapper {hand:.2f}"
    return [
        Row(
            "flights per scope with one query",
            f"{alone:.2f}",
            "2",
            verdict(alone <= 2),
            beside,
            how,
            {"flights": alone, "hand-written flights": hand},
        ),
        Row(
            "the same while callers wait",
            f"{waiting:.2f}",
            "at most 1.1",
            verdict(waiting <= 1.1),
            beside,
            f"{how}; {CONNECTIONS * 8} callers on {CONNECTIONS} connections, the run's ends included",
            {"flights": waiting},
        ),
        Row(
            "flights per one-shot (`router.fetchrow`)",
            f"{shot:.2f}",
            "1",
            verdict(shot <= 1),
            "asyncpg's `pool.fetchrow` 2.00, its reset included",
            how,
            {"flights": shot},
        ),
    ]
