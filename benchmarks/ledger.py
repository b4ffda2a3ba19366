"""What accounting costs: the meter per scope, and the ledger for 400, 10,000 and 100,000 tenants.

Everybody has use in the hour: the worst case. Usually a flush carries those who did something in its five
seconds, which is the figure "usual flush".
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import date, timedelta
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from benchmarks.contract import Options, Row, verdict
from tenantry.embedded import EmbeddedServer
from tenantry.events import ScopeEnded
from tenantry.schema import migrations
from tenantry.usage import ledger as pen
from tenantry.usage import shares, upkeep
from tenantry.usage.ledger import Ledger
from tenantry.usage.meter import Meter
from tenantry.usage.view import FleetView

SIZES: Final = (400, 10_000, 100_000)
SCOPES: Final = 20_000
#: Scopes a second of the hot path on the machine of field-notes.md: what the meter's part is counted at.
RATE: Final = 18_000
BOUND: Final = 0.02


async def run(options: Options) -> list[Row]:
    """The meter first, then each size of fleet on a server of its own."""
    rows = [meter()]
    with EmbeddedServer.start(options.version) as server:
        for tenants in SIZES[:2] if options.quick else SIZES:
            rows += await fleet(server, tenants)
    return rows


def meter() -> Row:
    """Nanoseconds per scope, the best of five rounds, with ids that are new objects each time."""
    ids = [uuid4() for _ in range(400)]
    events = [scope(UUID(int=random.choice(ids).int)) for _ in range(SCOPES)]
    counting = Meter()
    best = float("inf")
    for _ in range(5):
        # Processor time: what it takes from the process, whatever else the machine does.
        began = time.process_time()
        for event in events:
            counting(event)
        best = min(best, (time.process_time() - began) / len(events))
    part = best * RATE
    return Row(
        "Metering a scope",
        f"{best * 1e9:.0f} ns, {part:.1%} of one process at {RATE:,} scopes a second",
        f"{BOUND:.0%}",
        verdict(part <= BOUND),
        note="processor time, best of five rounds of 20,000 events, 400 tenants, uuids that are new objects",
        figures={"meter_ns": best * 1e9, "part": part},
    )


async def fleet(server: EmbeddedServer, tenants: int) -> list[Row]:
    """The ledger's rows, bytes and times for so many tenants."""
    name = f"ledger_{tenants}"
    server.psql(f"CREATE DATABASE {name}")
    for step in migrations("control"):
        server.psql(step.text, name)
    ids = [UUID(int=random.getrandbits(128)) for _ in range(tenants)]
    counting = Meter()

    def use(some: int) -> None:
        for tenant in ids[:some]:
            counting(scope(tenant))

    async with asyncpg.create_pool(server.dsn(name), min_size=1, max_size=4) as pool:
        ledger = Ledger(counting, pool, uuid4())
        use(tenants)
        new = await ledger.flush()
        use(tenants)
        again = await ledger.flush()
        use(200)
        usual = await ledger.flush()
        use(tenants)
        halt = await timed(counting.take)
        size = await bytes_of(pool, "usage")
        hour = Row(
            f"Ledger, an hour of {tenants:,} tenants",
            f"{new.rows:,} rows, {size / 1e6:.1f} MB; flush {again.seconds * 1e3:.0f} ms "
            f"(first {new.seconds * 1e3:.0f} ms), of 200 tenants {usual.seconds * 1e3:.1f} ms",
            "",
            "shown",
            note=f"{size / new.rows:.0f} bytes a row with its index; {again.batches} statements of "
            f"{pen.BATCH_ROWS} rows at most; the event loop stands still for {halt * 1e3:.1f} ms",
            figures={
                "rows": new.rows,
                "bytes": size,
                "first_flush_ms": new.seconds * 1e3,
                "flush_ms": again.seconds * 1e3,
                "usual_flush_ms": usual.seconds * 1e3,
                "take_ms": halt * 1e3,
            },
        )
        return [hour, await fortnight(pool, tenants)]


async def fortnight(pool: asyncpg.Pool[asyncpg.Record], tenants: int) -> Row:
    """Fourteen days of everybody, and what reads them."""
    today = upkeep.today(time.time())
    await pool.execute(
        "INSERT INTO tenantry.usage_day (day, database, tenant, busy_seconds, commits) "
        "SELECT day::date, 'shared', tenant, 10 * random(), 10 FROM tenantry.usage, "
        "generate_series($1::date, $2::date, interval '1 day') AS day ORDER BY 1, 3",
        today - timedelta(days=14),
        today - timedelta(days=1),
        timeout=300,
    )
    await pool.execute(
        "INSERT INTO tenantry.database_usage_day SELECT day, 'shared', 'measured', sum(busy_seconds), 1, 1, true "
        "FROM tenantry.usage_day GROUP BY day"
    )
    await pool.execute("ANALYZE")
    count = await pool.fetchval("SELECT count(*) FROM tenantry.usage_day")
    size = await bytes_of(pool, "usage_day")
    began = time.perf_counter()
    await window(pool, today)
    loading = time.perf_counter() - began
    view = FleetView()
    await view.refresh(pool, time.time())
    began = time.perf_counter()
    await view.refresh(pool, time.time())
    refresh = time.perf_counter() - began
    read = await timed(view.tenants)
    return Row(
        f"Ledger, 14 days of {tenants:,} tenants",
        f"{count:,} rows, {size / 1e6:.1f} MB; the rule's shares {loading * 1e3:.0f} ms",
        "",
        "shown",
        note=f"the scrape's counters: refreshed in {refresh * 1e3:.0f} ms, read in {read * 1e6:.0f} µs, "
        f"{len(view.tenants())} label sets",
        figures={
            "rows": count,
            "bytes": size,
            "shares_ms": loading * 1e3,
            "refresh_ms": refresh * 1e3,
            "labels": len(view.tenants()),
        },
    )


async def window(pool: asyncpg.Pool[asyncpg.Record], today: date) -> None:
    """All that the rule reads."""
    await upkeep.close_days(pool, time.time())
    await shares.load(pool, today - timedelta(days=14), today)


async def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time: the event loop stands still for them."""
    began = time.process_time()
    work()
    return time.process_time() - began


async def bytes_of(pool: asyncpg.Pool[asyncpg.Record], table: str) -> int:
    """Bytes of a table with its indexes."""
    size = await pool.fetchval("SELECT pg_total_relation_size($1::text::regclass)", f"tenantry.{table}")
    assert isinstance(size, int)
    return size


def scope(tenant: UUID) -> ScopeEnded:
    """A millisecond's scope."""
    return ScopeEnded(tenant, "shared", "commit", 0.001, 0.002, 0.0, 1)
