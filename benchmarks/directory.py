"""The directory's cache: what a lookup costs, what a million tenants weigh, how soon a change is seen."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import statistics
from collections.abc import Iterable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, Final
from uuid import UUID

import uvloop

from benchmarks import stage
from benchmarks.contract import Options, Row, verdict
from tenantry import Config, Router
from tenantry.directory import Directory, Store, TenantRow
from tenantry.events import Events
from tenantry.ids import IdType, Kind, TenantId

PROCESSES: Final = 8


async def run(options: Options) -> list[Row]:
    """Three claims."""
    million = 50_000 if options.quick else 1_000_000
    changes = 20 if options.quick else 200
    weight = weigh(million)
    with stage.server(options.version) as server:
        scene = await stage.prepare(server)
        tenants = stage.tenant_ids(changes)
        async with scene.owner() as connection:
            await stage.settle(connection, tenants)
        hot, public = await lookups(scene.config(), tenants)
        delays = await changes_seen(scene, tenants)
    return rows(hot, public, weight, million, delays)


def weigh(count: int) -> float:
    """Bytes per cached tenant: growth of the process, ids and all, no store behind it."""
    directory = Directory(Store("postgresql://nowhere.invalid"), IdType.UUID, Events())
    before = resident()
    for number in range(count):
        text = str(UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))
        directory.put(TenantRow(text, "shared", Kind.SHARED, 1, "active", None, 1.0, {}, 1))
    grown = resident() - before
    assert len(directory) == count
    return grown / count


def resident() -> int:
    """Bytes of memory that this process has in use, as the kernel counts them."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def lookups(config: Config, tenants: list[UUID]) -> tuple[float, float]:
    """Microseconds of what a checkout does to find a placement, and of `await router.placement(id)`."""
    async with Router.open(config, metrics=False) as router:
        await listening(router)
        for tenant in tenants:
            await router.placement(tenant)
        cached = router.directory.cached
        fresh = [UUID(int=tenant.int) for tenant in tenants] * 50  # equal, not the same, as a request's id is
        hot, public = [], []
        for _ in range(31):
            started = perf_counter()
            for tenant in fresh:
                entry = cached(tenant)
                assert entry is not None
                _ = entry.profile.placement
            hot.append((perf_counter() - started) * 1e6 / len(fresh))
            started = perf_counter()
            for tenant in fresh:
                await router.placement(tenant)
            public.append((perf_counter() - started) * 1e6 / len(fresh))
    return statistics.median(hot), statistics.median(public)


async def listening(router: Router) -> None:
    """Wait until the router hears of changes: changes are followed at once from then on."""
    feed = router._feed
    assert feed is not None
    async with asyncio.timeout(30):
        await feed.listening.wait()


async def changes_seen(scene: stage.Stage, tenants: list[UUID]) -> list[float]:
    """Seconds from sending a change until each of the processes has dropped it, for every change."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Pipe[Any, Any]] = []
    processes = []
    for _ in range(PROCESSES):
        ours, theirs = context.Pipe()
        process = context.Process(target=watcher, args=(scene.owner_dsn, scene.app_dsn, tenants, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    try:
        for pipe in pipes:
            assert await asyncio.to_thread(receive, pipe) == "ready"
        sent: dict[str, float] = {}
        async with scene.owner() as connection:
            for tenant in tenants:
                await asyncio.sleep(0.02)
                sent[str(tenant)] = monotonic()
                await connection.execute("UPDATE tenantry.tenant SET plan = 'new' WHERE id = $1", str(tenant))
        seen = [await asyncio.to_thread(receive, pipe) for pipe in pipes]
    finally:
        for process in processes:
            process.join(10)
            if process.is_alive():
                process.kill()
    return [when - sent[tenant] for one in seen for tenant, when in one]


def receive(pipe: Pipe[Any, Any]) -> Any:
    """What a process says, within a minute.

    Raises:
        TimeoutError: it says nothing.
    """
    if not pipe.poll(60):
        raise TimeoutError("a router process of the benchmark does not answer")
    return pipe.recv()


def watcher(control: str, app: str, tenants: list[UUID], pipe: Pipe[Any, Any]) -> None:
    """A router process: caches all the tenants, and notes when each is dropped."""
    uvloop.run(watch(control, app, tenants, pipe))


async def watch(control: str, app: str, tenants: Iterable[UUID], pipe: Pipe[Any, Any]) -> None:
    """See `watcher`. Linux's monotonic clock is the same for all processes."""
    config = Config.parse({"control": {"dsn": control}, "databases": {"shared": {"kind": "shared", "dsn": app}}})
    seen: dict[str, float] = {}
    waited = set(tenants)
    complete = asyncio.Event()

    def note(tenant: TenantId | None) -> None:
        if tenant in waited and str(tenant) not in seen:
            seen[str(tenant)] = monotonic()
            if len(seen) == len(waited):
                complete.set()

    async with Router.open(config, metrics=False) as router:
        await listening(router)
        for tenant in waited:
            await router.placement(tenant)
        router.directory.watch(note)
        pipe.send("ready")
        async with asyncio.timeout(60):
            await complete.wait()
    pipe.send(list(seen.items()))


def rows(hot: float, public: float, weight: float, count: int, delays: list[float]) -> list[Row]:
    """The table's lines."""
    p99 = statistics.quantiles(delays, n=100)[98] * 1e3
    median = statistics.median(delays) * 1e3
    return [
        Row(
            "cached placement",
            f"{hot:.2f} µs",
            "at most 1 µs",
            verdict(hot <= 1),
            f"`await router.placement(id)`, which checks the id too: {public:.2f} µs",
            "what a checkout does to know where a tenant lives; median of 31 runs, uuid ids",
            {"microseconds": hot, "public microseconds": public},
        ),
        Row(
            f"memory of {count:,} cached tenants",
            f"{weight:.0f} bytes each",
            "at most 400 bytes",
            verdict(weight <= 400),
            "",
            "growth of the process's resident memory, ids included",
            {"bytes": weight},
        ),
        Row(
            f"a change of the directory seen by {PROCESSES} router processes",
            f"{p99:.1f} ms at p99 (median {median:.1f} ms)",
            "at most 100 ms at p99",
            verdict(p99 <= 100),
            "",
            f"from sending the UPDATE to the entry being dropped; {len(delays):,} sightings",
            {"p99 milliseconds": p99, "median milliseconds": median},
        ),
    ]
