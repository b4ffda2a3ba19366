"""A page of a small tenant's newest rows in a skewed table: tenant-leading index against (created_at)."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import Any, Final

import asyncpg

from benchmarks import stage
from benchmarks.contract import Options, Row
from tenantry.runtime.sqltext import literal

TENANTS: Final = 200
#: Part of the rows that the largest tenant has; the others share the rest evenly, but for the last one.
LARGEST: Final = 0.6
SMALL: Final = 100  # rows of the last tenant, spread over the whole time
PAGE: Final = "SELECT id, note FROM log ORDER BY created_at DESC LIMIT 50"
FILL: Final = """
    CREATE TABLE log (tenant_id uuid NOT NULL, id bigint NOT NULL, created_at timestamptz NOT NULL, note text);
    CREATE FUNCTION pg_temp.whose(n bigint, ids text[], small bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
        SELECT (CASE WHEN n % small = 0 THEN ids[array_length(ids, 1)]
                     WHEN n % 10 < 6 THEN ids[1]
                     ELSE ids[2 + n / 10 % (array_length(ids, 1) - 2)] END)::uuid $$
"""


async def run(options: Options) -> list[Row]:
    """One row: the factor."""
    total = 100_000 if options.quick else 1_000_000
    with stage.server(options.version) as server:
        scene = await stage.prepare(server)
        tenants = stage.tenant_ids(TENANTS)
        async with scene.owner() as owner:
            await stage.settle(owner, tenants)
            await owner.execute(FILL)
            await owner.execute(
                "INSERT INTO log SELECT pg_temp.whose(n, $1, $3), n, "
                "'2026-01-01'::timestamptz + n * interval '1 second', repeat('x', 60) "
                "FROM generate_series(1, $2::bigint) AS n",
                [str(tenant) for tenant in tenants],
                total,
                total // SMALL,
            )
            await stage.protect_without_index(owner, "log")
            found = {}
            for index in ("created_at", "tenant_id, created_at"):
                await owner.execute(f"DROP INDEX IF EXISTS by_time; CREATE INDEX by_time ON log ({index})")
                await owner.execute("VACUUM ANALYZE log")
                found[index] = await page_times(scene.app_dsn, str(tenants[-1]), 5 if options.quick else 15)
    return [row(found["created_at"], found["tenant_id, created_at"], total, server.version)]


async def page_times(dsn: str, tenant: str, turns: int) -> float:
    """Milliseconds for one page of the tenant's, as the client sees it: median."""
    connection: Any = await asyncpg.connect(dsn)
    times = []
    try:
        for turn in range(turns + 2):
            await connection.execute(f"BEGIN; SELECT tenantry.bind({literal(tenant)})")
            started = perf_counter()
            page = await connection.fetch(PAGE)
            if turn >= 2:
                times.append((perf_counter() - started) * 1e3)
            await connection.execute("COMMIT")
            assert len(page) == 50
    finally:
        await connection.close()
    return statistics.median(times)


def row(by_time: float, by_tenant: float, total: int, version: int) -> Row:
    """The table's line."""
    return Row(
        "tenant-leading index against (created_at), a page of a small tenant's rows",
        f"{by_time / by_tenant:,.0f} x ({by_time:.1f} ms to {by_tenant:.2f} ms)",
        "",
        "shown",
        "one platform reported 800 ms to 3 ms",
        f"{total:,} rows, one tenant has {LARGEST:.0%}, the one that asks {SMALL}; under the policy, "
        f"PostgreSQL {version}",
        {"factor": by_time / by_tenant, "created_at milliseconds": by_time, "tenant milliseconds": by_tenant},
    )
