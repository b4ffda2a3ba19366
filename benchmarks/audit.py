"""A plan and an audit of 150 tables, a third of them without what the standard wants."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from time import perf_counter

from benchmarks import stage
from benchmarks.contract import Options, Row, verdict
from tenantry.catalog.read import read
from tenantry.isolation.apply import compute
from tenantry.isolation.audit import audit
from tests.schemas import SHOP

#: Seconds that an operator waits without wondering.
BOUND = 2.0
TABLES = 150
THERE = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND oid >= 16384"


async def run(options: Options) -> list[Row]:
    """Two rows."""
    with stage.server(options.version) as server:
        scene = await stage.prepare(server)
        async with scene.owner() as owner:
            await owner.execute(SHOP.sql)
            there = await owner.fetchval(THERE)
            await owner.execute(
                "DO $do$ BEGIN FOR n IN 1.." + str(TABLES - there) + " LOOP EXECUTE format("
                "'CREATE TABLE more_%s (id bigint PRIMARY KEY, tenant_id uuid)', n); END LOOP; END $do$"
            )

            async def look() -> None:
                report = audit(await read(owner), SHOP.tenancy, role=stage.APP)
                assert report.findings

            async def plan() -> None:
                assert (await compute(owner, SHOP.tenancy, role=stage.APP)).steps

            rounds = 2 if options.quick else 9
            return [
                row(f"an audit of {TABLES} tables", await seconds(look, rounds), rounds),
                row(f"a plan for {TABLES} tables", await seconds(plan, rounds), rounds),
            ]


async def seconds(work: Callable[[], Awaitable[None]], rounds: int) -> float:
    """Of one run: median."""
    times = []
    for _ in range(rounds):
        started = perf_counter()
        await work()
        times.append(perf_counter() - started)
    return statistics.median(times)


def row(claim: str, took: float, rounds: int) -> Row:
    """One line of the table."""
    return Row(
        claim,
        f"{took * 1e3:,.0f} ms",
        f"at most {BOUND:.0f} s",
        verdict(took < BOUND),
        note=f"the catalogs read and judged, one connection, median of {rounds}",
        figures={"milliseconds": took * 1e3},
    )
