"""What the witness costs a database: one look at its sessions, and one estimate of its storage."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import asyncpg

from benchmarks import stage
from benchmarks.contract import Options, Row
from tenantry.catalog.tenancy import Tenancy
from tenantry.sql import query
from tenantry.usage import storage
from tenantry.usage.sampler import read_activity

SESSIONS: Final = 80
EXACT: Final = "SELECT tenant_id, sum(pg_column_size(log.*)) AS bytes FROM log GROUP BY tenant_id"


async def run(options: Options) -> list[Row]:
    """A row for looking, and one for storage."""
    looks, total = (50, 20_000) if options.quick else (500, 1_000_000)
    with stage.server(options.version, {"max_connections": str(SESSIONS + 20)}) as server:
        scene = await stage.prepare(server)
        async with scene.owner() as owner, sessions(scene):
            return [await looking(owner, looks), await storing(owner, total)]


@asynccontextmanager
async def sessions(scene: stage.Stage) -> AsyncIterator[None]:
    """As many sessions as a busy database has: a third of them executing, tagged as scopes tag them."""
    async with AsyncExitStack() as opened:
        waiting = []
        for number in range(SESSIONS):
            settings = {"application_name": f"tenantry:tenant-{number % 20}"}
            connection: Any = await asyncpg.connect(scene.app_dsn, server_settings=settings)
            opened.push_async_callback(connection.close)
            if number % 3 == 0:
                waiting.append(asyncio.create_task(connection.execute("SELECT pg_sleep(600)")))
        try:
            yield
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def looking(owner: Any, looks: int) -> Row:
    """One look: what the server needs by its own account, and what the caller sees."""
    times = []
    for _ in range(looks):
        began = time.perf_counter()
        seen = await read_activity(owner)
        times.append((time.perf_counter() - began) * 1e3)
    assert sum(some.sessions for some in seen) >= SESSIONS
    inside = [await executing(owner) for _ in range(min(looks, 100))]
    middle, best, caller = statistics.median(inside), min(inside), statistics.median(times)
    return Row(
        f"the witness: one look at {SESSIONS} sessions",
        f"{middle:.2f} ms in the server ({best:.2f} at best), {caller:.2f} ms as the caller sees it",
        "",
        "shown",
        note=f"medians of {len(inside)} and {looks}; once a second that is {middle / 10:.2f} % of one processor",
        figures={"server ms": round(middle, 4), "best ms": round(best, 4), "caller ms": round(caller, 4)},
    )


async def executing(owner: Any) -> float:
    """Milliseconds that the server takes for one look: planning and execution, by EXPLAIN."""
    text = query("usage/sample")
    plan = await owner.fetch(f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY) {text}")
    return sum(float(line[0].split()[2]) for line in plan if "Time:" in line[0])


async def storing(owner: Any, total: int) -> Row:
    """One estimate, beside the exact figure."""
    await owner.execute(
        "CREATE TABLE log (tenant_id uuid NOT NULL, id bigint, note text, PRIMARY KEY (tenant_id, id))"
    )
    tenants = [str(tenant) for tenant in stage.tenant_ids(200)]
    await owner.execute(
        "INSERT INTO log SELECT whose.id::uuid, n, repeat('x', (n % 100)::int) "
        "FROM generate_series(1, $2::bigint) AS n, "
        "LATERAL (SELECT ($1::text[])[CASE WHEN n % 10 < 4 THEN 1 ELSE 1 + n % 200 END] AS id) AS whose",
        tenants,
        total,
    )
    await owner.execute("VACUUM ANALYZE log")
    tables = await storage.tables(owner, Tenancy())
    began = time.perf_counter()
    found = await storage.estimate(owner, tables)
    took = time.perf_counter() - began
    began = time.perf_counter()
    rows = await owner.fetch(EXACT)
    whole = time.perf_counter() - began
    exact = {str(row["tenant_id"]): row["bytes"] for row in rows}
    truth = exact[tenants[0]] / sum(exact.values())
    said = found.share(tenants[0]) or 0.0
    return Row(
        "the witness: one estimate of whose the bytes are",
        f"{took * 1e3:.0f} ms, {found.pages:,} pages; off by {abs(said - truth) * 100:.1f} points",
        "",
        "shown",
        f"exact: {whole * 1e3:.0f} ms",
        f"{total:,} rows, one tenant has {truth:.0%} of the bytes; once a day and database, at most "
        f"{storage.PAGES:,} pages a table and {storage.SECONDS:.0f} s in all",
        {
            "estimate ms": round(took * 1e3, 2),
            "exact ms": round(whole * 1e3, 2),
            "pages": found.pages,
            "points off": round(abs(said - truth) * 100, 3),
        },
    )
