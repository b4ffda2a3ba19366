"""What one thing costs, measured: processor time of a PostgreSQL or of a router, on this machine.

Of a server it is what `benchmarks.processor` says, so other load on the machine changes little. Waiting for disks
is not in it; an embedded server does not wait for them at a commit.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg

from benchmarks import stage
from benchmarks.contract import Options
from benchmarks.fleet.simulate import TERMS
from benchmarks.processor import server_seconds
from tenantry.directory import Directory, Store, TenantRow
from tenantry.embedded import EmbeddedServer
from tenantry.events import Events, ScopeEnded
from tenantry.ids import IdType, Kind
from tenantry.promotion.balance import BalanceRule, Hosted, Hosting, propose, window
from tenantry.rooms import Room, Rooms
from tenantry.router.admission import Admission
from tenantry.usage.ledger import Ledger
from tenantry.usage.meter import Meter
from tests.support.installing import make_control

SHARED = 12


class Costs(NamedTuple):
    """Seconds of processor time, unless said otherwise. Of the control database's server:"""

    lookup: float
    """One id that a router does not have in its cache."""
    poll: float
    """What changed since the last time: nothing."""
    change: float
    """A change of a tenant's row, with nobody listening."""
    notice: float
    """More for each router that listens."""
    flush: float
    """A router's flush of no rows."""
    row: float
    """More for each tenant in it."""
    sign_up: float
    """`tenancy.placement: least-loaded` among twelve databases, all tenants there. One at a time."""
    inhabitants: float
    """`placements check`: all tenants counted."""
    connection: float
    """A connection that is opened and closed."""
    backend: float
    """Bytes of memory that are a session's own (anonymous, PSS), after one look-up."""
    # Of one process:
    heard: float
    """A router hears of one tenant's change."""
    doubt: float
    """A router hears that anything may have changed, with 100,000 tenants in its cache."""
    admission: float
    """One decision of `Admission`, with a thousand tenants waiting."""
    balance: float
    """`balance` over twelve databases, a hundred tenants of each."""
    tenants: int
    """In the directory, when this was measured."""


async def measure(options: Options, tenants: int = 1_000_000) -> Costs:
    """All of them; minutes, or with `--quick` seconds."""
    tenants, times = (20_000, 100) if options.quick else (tenants, 1_000)
    with stage.server(options.version, {"max_connections": "300"}) as server:
        server.psql("CREATE DATABASE control")
        control = await asyncpg.connect(server.dsn("control"))
        try:
            await make_control(control, **{f"shared{n}": Kind.SHARED for n in range(SHARED)})
            await control.execute(
                "INSERT INTO tenantry.tenant (id, database) SELECT i::text, 'shared' || i % 12 "
                "FROM generate_series(1, $1::int) AS i",
                tenants,
                timeout=600,
            )
            await control.execute("VACUUM ANALYZE", timeout=600)
            asked = await _asked(server, control, tenants, times)
            noticed = await _noticed(server, control, times)
            written = await _flushed(server, times)
            session = await _sessions(server, control, times)
        finally:
            await control.close()
    return Costs(**asked, **noticed, **written, **session, **_of_a_process(), tenants=tenants)


async def _per(server: EmbeddedServer, times: int, work: Callable[[int], Awaitable[object]]) -> float:
    """Seconds of the server for one of `times` calls."""
    await work(0)  # what is prepared once is not counted
    before = server_seconds(server)
    for number in range(1, times + 1):
        await work(number)
    return (server_seconds(server) - before) / times


async def _asked(server: EmbeddedServer, control: Any, tenants: int, times: int) -> dict[str, float]:
    store, dice = Store(server.dsn("control"), timeout=60), random.Random(1)
    rooms = Rooms([Room(f"shared{n}", 10 * tenants) for n in range(SHARED)], spread=True)
    try:
        mark = (
            (await store.changes("0")).mark
            if tenants < 10_000
            else await control.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
        )
        await control.execute("SELECT pg_current_xact_id()")
        lookup = await _per(server, times, lambda _: store.tenants([str(dice.randint(1, tenants))], removed=True))
        poll = await _per(server, times, lambda _: store.changes(mark))
        few = max(5, times // 50)
        sign_up = await _per(server, few, lambda n: store.add_tenant(f"new{n}", rooms))
        inhabitants = await _per(server, 3, lambda _: store.inhabitants.count())
    finally:
        await store.close()
    return {
        "lookup": lookup, "poll": poll, "sign_up": sign_up, "inhabitants": inhabitants,
    }  # fmt: skip


async def _noticed(server: EmbeddedServer, control: Any, times: int) -> dict[str, float]:
    """Changes with nobody listening, and with a hundred."""

    async def change(number: int) -> None:
        await control.execute("UPDATE tenantry.tenant SET plan = $2 WHERE id = $1", str(1 + number), str(number))

    alone = await _per(server, times, change)
    async with AsyncExitStack() as stack:
        left, all_heard = 100 * (times + 1), asyncio.Event()

        def hear(*_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                all_heard.set()

        for _ in range(100):
            listener = await asyncpg.connect(server.dsn("control"))
            stack.push_async_callback(listener.close)
            await listener.add_listener("tenantry_directory", hear)
        crowded = await _per(server, times, change)
        async with asyncio.timeout(60):
            await all_heard.wait()
    return {"change": alone, "notice": max(0.0, crowded - alone) / 100}


async def _flushed(server: EmbeddedServer, times: int) -> dict[str, float]:
    """Flushes of no rows, and of 200 that are in the hour already."""
    async with asyncpg.create_pool(server.dsn("control"), min_size=1, max_size=1) as pool:
        meter = Meter()
        ledger = Ledger(meter, pool, uuid4())

        async def flush(rows: int) -> None:
            for tenant in range(rows):
                meter(ScopeEnded(tenant, "shared0", "commit", 0.001, 0.002, 0.0, 1))
            await ledger.flush()

        number = max(20, times // 10)
        empty = await _per(server, number, lambda _: flush(0))
        full = await _per(server, number, lambda _: flush(200))
        return {"flush": empty, "row": max(0.0, full - empty) / 200}


async def _sessions(server: EmbeddedServer, control: Any, times: int) -> dict[str, float]:
    async def once(_: int) -> None:
        await (await asyncpg.connect(server.dsn("control"))).close()

    connection = await _per(server, max(20, times // 10), once)
    fresh = await asyncpg.connect(server.dsn("control"))
    try:
        joined = "tenantry.tenant AS t JOIN tenantry.database AS d ON d.name = t.database"
        await fresh.fetch(f"SELECT * FROM {joined} WHERE t.id = '1'")
        return {"connection": connection, "backend": _memory(fresh.get_server_pid())}
    finally:
        await fresh.close()


def _memory(pid: int) -> float:
    """Bytes that are a process's own: not the shared buffers."""
    said = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) * 1024.0 for line in said.splitlines() if line.startswith("Pss_Anon:"))


def _of_a_process() -> dict[str, float]:
    directory = Directory(Store("postgresql://nowhere.invalid"), IdType.BIGINT, Events())
    for number in range(100_000):
        directory.put(TenantRow(str(number), "shared", Kind.SHARED, 1, "active", None, 1.0, {}, 1))
    began = time.process_time()
    for number in range(10_000):
        directory.suspect({str(number): 2})
    heard = (time.process_time() - began) / 10_000
    began = time.process_time()
    directory.suspect_all()
    doubt = time.process_time() - began
    return {"heard": heard, "doubt": doubt, "admission": _admission(), "balance": _balance()}


def _admission() -> float:
    admission: Admission[int] = Admission(20)
    for waiter in range(20_000):
        admission.arrive(waiter, waiter % 1_000, TERMS, 0.0)
    began = time.process_time()
    for number in range(20_000):
        turn = admission.take(number * 0.001)
        assert turn is not None
        admission.leave(turn % 1_000, 0.001, number * 0.001)
    return (time.process_time() - began) / 20_000


def _balance() -> float:
    rule, today, dice = BalanceRule(), date(2026, 3, 1), random.Random(1)
    days, since = window(rule, today), today - timedelta(days=300)
    loads = {f"d{n}": [dice.paretovariate(1.2) * 100 for _ in range(100)] for n in range(SHARED)}
    hosting = [Hosting(name, dict.fromkeys(days, sum(some))) for name, some in loads.items()]
    hosted = [
        Hosted(f"{name}/{n}", name, dict.fromkeys(days, load), since)
        for name, some in loads.items()
        for n, load in enumerate(some)
    ]
    began = time.process_time()
    propose(rule, hosting, hosted, today)
    return time.process_time() - began
