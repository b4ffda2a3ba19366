"""What a scrape costs with 100,000 tenants: of `tenantry serve`, in the server and end to end, and of the library.

Everybody is in the directory and has use in the present hour and in the one before: the worst case. The server is
a process of its own, as operators run it. Statements are counted by the control database's log.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from uuid import UUID

from prometheus_client import CollectorRegistry

from benchmarks import stage
from benchmarks.contract import Options, Row, verdict
from tenantry.events import ScopeEnded
from tenantry.metrics import PrometheusSink, exposition

TENANTS: Final = 100_000
BOUND_MS: Final = 20.0
SERIES: Final = 400
_TICKS: Final = os.sysconf("SC_CLK_TCK")

FILL: Final = """
INSERT INTO tenantry.tenant (id, database) SELECT 'tenant-' || n, 'shared' FROM generate_series(1, $1::int) AS n;
"""
USE: Final = """
INSERT INTO tenantry.usage (hour, database, tenant, busy_seconds, waited_seconds, commits)
SELECT date_trunc('hour', now(), 'UTC') - hour * interval '1 hour', 'shared', 'tenant-' || n, 1000.0 / n, 1, 10
FROM generate_series(1, $1::int) AS n, generate_series(0, 1) AS hour
"""
TOTAL: Final = """
INSERT INTO tenantry.database_usage (hour, database, busy_seconds, covered_seconds)
SELECT date_trunc('hour', now(), 'UTC') - hour * interval '1 hour', 'shared', 20000, 3600
FROM generate_series(0, 1) AS hour
"""


class Scrapes(NamedTuple):
    """What some scrapes in a row took."""

    elapsed: list[float]
    """Seconds of each, end to end over loopback."""
    processor: float
    """Seconds of the server's processor time per scrape, its reading in the background included."""
    series: int
    statements: int
    """That the control database got meanwhile, from everybody."""
    reading: int
    """The most statements that reading once can have taken meanwhile: those of as much time without a scrape."""


async def run(options: Options) -> list[Row]:
    """One row for the server, one for the library."""
    tenants, times = (5_000, 50) if options.quick else (TENANTS, 400)
    with stage.server(options.version) as server:
        scene = await stage.prepare(server)
        async with scene.owner() as owner:
            await owner.execute(FILL.replace("$1::int", str(tenants)))
            await owner.execute(USE, tenants)
            await owner.execute(TOTAL)
            await owner.execute("ANALYZE")
            await owner.execute(f"ALTER DATABASE {scene.database} SET log_min_duration_statement = 0")
        async with serving(scene) as (address, process):
            found = await scrapes(scene, address, process, times)
    return [fleet(found, tenants, times), library(tenants)]


@asynccontextmanager
async def serving(scene: stage.Stage) -> AsyncIterator[tuple[str, int]]:
    """`tenantry serve`: its address, and its process's number."""
    with TemporaryDirectory() as folder:
        config = Path(folder) / "tenantry.yaml"
        config.write_text(
            f"tenancy: {{type: text}}\ncontrol: {{dsn: '{scene.owner_dsn}'}}\n"
            f"databases: {{shared: {{kind: shared, dsn: '{scene.owner_dsn}'}}}}\n"
        )
        command = ["-m", "tenantry", "serve", "--port", "0", "--config", str(config)]
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=asyncio.subprocess.PIPE)
        try:
            assert process.stderr is not None
            address = re.search(r"http://\S+", (await process.stderr.readline()).decode())
            assert address is not None
            yield f"{address[0]}/metrics", process.pid
        finally:
            process.terminate()
            await process.wait()


async def scrapes(scene: stage.Stage, address: str, process: int, times: int) -> Scrapes:
    """Scrape so many times, ten times a second at most; then let as much time pass without a scrape."""
    loop = asyncio.get_running_loop()

    def scrape() -> tuple[float, bytes]:
        began = time.perf_counter()
        with urllib.request.urlopen(address, timeout=60) as answer:
            text: bytes = answer.read()
        return time.perf_counter() - began, text

    def statements() -> int:
        return scene.server.log_text().count(f"@{scene.database} LOG:  duration:")

    _, text = await loop.run_in_executor(None, scrape)  # waits for the first reading
    before, spent, began = statements(), processor(process), time.perf_counter()
    elapsed = []
    for _ in range(times):
        took, text = await loop.run_in_executor(None, scrape)
        elapsed.append(took)
        await asyncio.sleep(0.02)
    used, during, length = processor(process) - spent, statements() - before, time.perf_counter() - began
    before = statements()
    await asyncio.sleep(length)
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    return Scrapes(elapsed, used / times, series, during, statements() - before)


def processor(process: int) -> float:
    """Seconds of processor time that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def fleet(found: Scrapes, tenants: int, times: int) -> Row:
    """The server's line."""
    middle = statistics.median(found.elapsed) * 1e3
    _, *_, late = statistics.quantiles(found.elapsed, n=20)
    return Row(
        f"a scrape of `tenantry serve`, {tenants:,} tenants",
        f"{middle:.1f} ms end to end, {found.processor * 1e3:.1f} ms of the server's processor; "
        f"{found.series} series",
        f"at most {BOUND_MS:.0f} ms, no query per tenant, at most {SERIES} series",
        verdict(middle <= BOUND_MS and found.series <= SERIES and found.statements < times),
        note=f"median of {times} scrapes over loopback, 95 % within {late * 1e3:.1f} ms; the control database got "
        f"{found.statements} statements meanwhile, {found.reading} in as much time without a scrape: a scrape "
        "runs none, the server reads every few seconds for itself",
        figures={
            "median ms": round(middle, 3),
            "95th percentile ms": round(late * 1e3, 3),
            "processor ms": round(found.processor * 1e3, 3),
            "series": found.series,
            "statements": found.statements,
            "statements without a scrape": found.reading,
        },
    )


def library(tenants: int) -> Row:
    """A service's own registry after an hour in which all tenants were served, and leaders changed."""
    now = [0.0]
    router: Any = SimpleNamespace(pools=SimpleNamespace(open_pools=dict))
    registry = CollectorRegistry()
    sink = PrometheusSink(router, registry=registry, clock=lambda: now[0])
    ids = [UUID(int=number) for number in range(tenants)]
    spent = time.process_time()
    for hour in range(2):
        for number, tenant in enumerate(ids):
            busy = 1.0 if number // 20 % 50 == hour else 0.001
            sink(ScopeEnded(tenant, "shared", "commit", busy, busy, 0.001, 1))
        now[0] += 3600
    per_scope = (time.process_time() - spent) / (2 * tenants)
    times = []
    for _ in range(20):
        began = time.process_time()
        _, text = exposition(registry)
        times.append((time.process_time() - began) * 1e3)
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    middle = statistics.median(times)
    return Row(
        f"a scrape of the library's own registry, {tenants:,} tenants",
        f"{middle:.1f} ms; {series} series",
        f"at most {BOUND_MS:.0f} ms, at most {SERIES} series",
        verdict(middle <= BOUND_MS and series <= SERIES),
        note=f"processor time, median of 20; counting a scope took {per_scope * 1e6:.1f} µs",
        figures={"median ms": round(middle, 3), "series": series, "scope us": round(per_scope * 1e6, 3)},
    )
