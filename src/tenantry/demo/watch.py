"""Looks at the load while it runs, some times a second, for the live view."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import perf_counter

from tenantry.demo.load import DemoLoad, quantile
from tenantry.demo.teller import Bar, Frame, Teller
from tenantry.runtime.shielded import stop
from tenantry.wiring import Router

_EVERY = 0.25
_SHOWN = 6


@contextlib.asynccontextmanager
async def watched(teller: Teller, load: DemoLoad, title: str, seconds: float | None = None) -> AsyncIterator[None]:
    """Tell the teller frames of the load while the block runs.

    Args:
        seconds: how long the block will take, where that is known.
    """
    with teller.live():
        task = asyncio.create_task(_watch(teller, load, title, seconds), name="tenantry demo view")
        try:
            yield
        finally:
            await stop(task)


async def _watch(teller: Teller, load: DemoLoad, title: str, seconds: float | None) -> None:
    began = before = perf_counter()
    recent = load.sample()
    start = [book.requests for book in load.books]
    try:
        while True:
            await asyncio.sleep(_EVERY)
            load.finish(recent)
            now = perf_counter()
            done = [book.requests - first for book, first in zip(load.books, start, strict=True)]
            teller.frame(
                Frame(
                    title=title,
                    elapsed=now - began,
                    seconds=seconds,
                    rate=recent.requests / (now - before),
                    p99=quantile(recent.latencies(), 0.99),
                    requests=sum(done),
                    failures=load.totals()[1],
                    bars=bars_of([c.name for c in load.customers], [float(n) for n in done]),
                    pools=tuple(pool_lines(load.router)),
                )
            )
            before, recent = now, load.sample()
    finally:
        load.finish(recent)


def bars_of(names: list[str], values: list[float], *, shown: int = _SHOWN) -> tuple[Bar, ...]:
    """The largest values, each with its part of the whole, and all others in one last bar."""
    whole = sum(values) or 1.0
    ordered = sorted(zip(values, names, strict=True), reverse=True)
    found = [Bar(name, value / whole, f"{value / whole:5.1%}") for value, name in ordered[:shown]]
    rest = ordered[shown:]
    if rest:
        part = sum(value for value, _ in rest) / whole
        found.append(Bar(f"{len(rest)} others", part, f"{part:5.1%}"))
    return tuple(found)


def pool_lines(router: Router) -> list[str]:
    """What each open pool is doing."""
    found = []
    for name, pool in router.pools.open_pools().items():
        states = ", ".join(f"{count} {state}" for state, count in pool.state().items() if count)
        found.append(f"{name}: {states or 'no connections'}, {pool.admission.waiting} waiting")
    return found
