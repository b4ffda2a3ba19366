"""What accounting costs: the meter per scope, and the ledger for 400, 10,000 and 100,000 tenants.

    python -m benchmarks.ledger [TENANTS …]

Prints, for that many tenants with use in the hour: the flush that makes their rows, the flush that adds to
them, the event loop's longest halt while the meter is taken, rows and bytes of the hour and of a fortnight of
days, and what the rule's query and the refresh of the scrape take.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from datetime import date, timedelta
from uuid import UUID, uuid4

import asyncpg

from tenantry.embedded import EmbeddedServer
from tenantry.events import ScopeEnded
from tenantry.sql import migrations
from tenantry.usage import shares, upkeep
from tenantry.usage.ledger import Ledger
from tenantry.usage.meter import Meter
from tenantry.usage.view import FleetView

SIZES = (400, 10_000, 100_000)
SCOPES = 200_000
#: What the hot path makes on this kind of machine: the rate at which two per cent are counted.
RATE = 18_000


def meter_cost() -> None:
    """Nanoseconds per scope, the best of five rounds, with ids that are new objects each time."""
    ids = [uuid4() for _ in range(400)]
    events = [
        ScopeEnded(UUID(int=random.choice(ids).int), "shared", "commit", 0.001, 0.002, 0.0, 1)
        for _ in range(SCOPES // 10)
    ]
    meter = Meter()
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for event in events:
            meter(event)
        best = min(best, (time.perf_counter() - began) / len(events))
    print(f"meter: {best * 1e9:.0f} ns per scope; {best * RATE:.2%} of a core at {RATE:,} scopes a second")


async def ledger_cost(server: EmbeddedServer, tenants: int) -> None:
    """One size of fleet."""
    name = f"ledger_{tenants}"
    server.psql(f"CREATE DATABASE {name}")
    for step in migrations("control"):
        server.psql(step.text, name)
    ids = [UUID(int=random.getrandbits(128)) for _ in range(tenants)]
    meter = Meter()
    async with asyncpg.create_pool(server.dsn(name), min_size=1, max_size=4) as pool:
        ledger = Ledger(meter, pool, uuid4())

        def use() -> None:
            for tenant in ids:
                meter(ScopeEnded(tenant, "shared", "commit", 0.001, 0.002, 0.0, 1))

        use()
        first = await ledger.flush()
        use()
        again = await ledger.flush()
        few = ids[: min(400, tenants)]
        for tenant in few:
            meter(ScopeEnded(tenant, "shared", "commit", 0.001, 0.002, 0.0, 1))
        usual = await ledger.flush()
        use()
        began = time.perf_counter()
        meter.take()
        halt = time.perf_counter() - began
        size = await bytes_of(pool, "usage")
        print(
            f"{tenants:>7,} tenants, hour: {first.rows:,} rows, {size / 1e6:.1f} MB ({size / first.rows:.0f} bytes a row); "
            f"flush {first.seconds * 1e3:.0f} ms new, {again.seconds * 1e3:.0f} ms again ({again.batches} batches), "
            f"{usual.seconds * 1e3:.1f} ms for {len(few)} tenants; take {halt * 1e3:.1f} ms"
        )
        await fortnight(pool, tenants)


async def fortnight(pool: asyncpg.Pool[asyncpg.Record], tenants: int) -> None:
    """Fourteen days of everybody, and what reads them."""
    today = upkeep.moment(time.time()).date()
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
    rows = await pool.fetchval("SELECT count(*) FROM tenantry.usage_day")
    size = await bytes_of(pool, "usage_day")
    loading = await timed_load(pool, today)
    view = FleetView()
    await view.refresh(pool, time.time())
    began = time.perf_counter()
    await view.refresh(pool, time.time())
    refresh = time.perf_counter() - began
    began = time.perf_counter()
    series = len(view.tenants())
    read = time.perf_counter() - began
    print(
        f"{tenants:>7,} tenants, 14 days: {rows:,} rows, {size / 1e6:.1f} MB; shares for the rule {loading * 1e3:.0f} ms; "
        f"view refresh {refresh * 1e3:.0f} ms, read {read * 1e6:.0f} µs, {series} labels"
    )


async def timed_load(pool: asyncpg.Pool[asyncpg.Record], today: date) -> float:
    """Seconds for all shares that the rule wants."""
    began = time.perf_counter()
    await upkeep.close_days(pool, time.time())
    await shares.load(pool, today - timedelta(days=14), today)
    return time.perf_counter() - began


async def bytes_of(pool: asyncpg.Pool[asyncpg.Record], table: str) -> int:
    """Bytes of a table with its indexes."""
    size = await pool.fetchval("SELECT pg_total_relation_size($1::regclass)", f"tenantry.{table}")
    assert isinstance(size, int)
    return size


def main() -> None:
    """Run all of it."""
    sizes = [int(argument) for argument in sys.argv[1:]] or SIZES
    meter_cost()
    with EmbeddedServer.start(18) as server:
        for tenants in sizes:
            asyncio.run(ledger_cost(server, tenants))


if __name__ == "__main__":
    main()
