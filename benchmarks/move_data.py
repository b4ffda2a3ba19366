"""The move's data: how fast rows are copied and compared, and what memory the mover takes.

Copy: our pipe, a binary `psql | psql` pipe, the built-in table sync and `pg_dump | psql` by turns, into the same
indexed table. Memory: whole moves of two sizes, each by a mover in a process of its own. Both ends share this
machine. The pause: `benchmarks.move`.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import asyncpg

from benchmarks.contract import Options, Row, verdict
from tenantry.embedded import EmbeddedServer
from tenantry.move import Limits
from tenantry.move.context import MoveContext
from tenantry.move.journal import Journal
from tenantry.move.lease import Lease
from tenantry.move.plan import MovePlan
from tenantry.move.progress import silence
from tenantry.move.replication import drop_publication, drop_slot, drop_subscription
from tenantry.move.session import session
from tenantry.move.steps.copy import copy_table
from tenantry.move.steps.verify import compare_table
from tests.support.estate import Estate, fill

_PIPE: Final = "psql | psql, binary"
_GB: Final = 1e9
_MB: Final = 1e6
_PATIENT: Final = Limits(stall=600)


async def run(options: Options) -> list[Row]:
    """Copy, verification, memory."""
    quick = options.quick
    with EmbeddedServer.start(18) as near, EmbeddedServer.start(18) as far:
        rows = await rates(near, far, 20_000 if quick else 1_000_000, 1 if quick else 3)
    with EmbeddedServer.start(18) as near, EmbeddedServer.start(18) as far:
        return [*rows, await memory(near, far, (5_000, 20_000) if quick else (300_000, 1_500_000))]


async def rates(near: EmbeddedServer, far: EmbeddedServer, rows: int, rounds: int) -> list[Row]:
    """Copy by turns, then compare."""
    estate = await Estate.make(near, far, tenants=1, rows=10)
    await _filled(estate, rows)
    # A finished move leaves the target with the whole schema; the copies are then made by hand.
    mover = estate.mover(limits=_PATIENT)
    record = await mover.run(await mover.plan(estate.tenant, "acme"))
    await estate.fetch("acme", "ALTER TABLE entry DROP CONSTRAINT entry_tenant_id_account_fkey")
    work = _work(estate, record.plan)
    copy = await _copies(estate, work, rows, rounds)
    return [copy, await _verification(work, rows, rounds)]


async def _copies(estate: Estate, work: MoveContext, rows: int, rounds: int) -> Row:
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "ours": lambda: _ours(work),
        _PIPE: lambda: _psql(estate),
        "built-in table sync": lambda: _sync(estate),
        "pg_dump | psql of the whole table": lambda: _pg_dump(estate),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            await estate.fetch("acme", "TRUNCATE entry")
            await estate.fetch("acme", "CHECKPOINT")
            started = time.monotonic()
            await way()
            seconds[name].append(time.monotonic() - started)
            (there,) = await estate.fetch("acme", "SELECT count(*) AS rows FROM entry")
            assert there["rows"] >= rows, f"{name} brought {there['rows']} rows"
    rate = {name: rows / statistics.median(taken) for name, taken in seconds.items()}
    # Neighbours in time were measured under the same load.
    ratio = statistics.median(pipe / ours for ours, pipe in zip(seconds["ours"], seconds[_PIPE], strict=True))
    return Row(
        "copy of a tenant's rows into an indexed table",
        f"{rate['ours']:,.0f} rows/s, {ratio:.2f} x a binary psql | psql pipe",
        "at least 0.8 x the pipe",
        verdict(ratio >= 0.8),
        beside=", ".join(f"{name} {value:,.0f} rows/s" for name, value in rate.items() if name != "ours"),
        note=f"{rows} rows of some 150 bytes, {rounds} rounds by turns, medians; pg_dump can't choose rows: it "
        "got a table that holds this tenant alone",
        figures={name: round(value) for name, value in rate.items()} | {"ratio": ratio},
    )


async def _ours(work: MoveContext) -> None:
    table = next(t for t in work.plan.tables if t.name == "entry")
    async with (
        session(work.source, "bench") as source,
        session(work.target, "bench", session_replication_role="replica") as target,
    ):
        await copy_table(work, table, source, target)


async def _psql(estate: Estate) -> None:
    columns = "tenant_id, id, op, account, amount, currency, note, at"
    out = f"COPY (SELECT {columns} FROM entry WHERE tenant_id = '{estate.tenant}') TO STDOUT (FORMAT binary)"
    into = f"COPY entry ({columns}) FROM STDIN (FORMAT binary)"
    psql = [str(estate.near.bin("psql")), "-X", "-q", "-d"]
    await asyncio.to_thread(
        _pipe,
        [*psql, estate.near.dsn(estate.shared), "-c", out],
        [*psql, estate.far.dsn(estate.dedicated), "-c", into],
    )


async def _pg_dump(estate: Estate) -> None:
    dump = [str(estate.near.bin("pg_dump")), "--data-only", "--table=public.entry"]
    psql = [str(estate.near.bin("psql")), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", os.devnull]
    await asyncio.to_thread(
        _pipe,
        [*dump, "-d", estate.near.dsn(estate.shared)],
        [*psql, "-d", estate.far.dsn(estate.dedicated)],
    )


def _pipe(first: list[str], then: list[str]) -> None:
    environment = {"PGOPTIONS": "-c session_replication_role=replica"}
    with subprocess.Popen(first, stdout=subprocess.PIPE) as source:
        subprocess.run(then, stdin=source.stdout, env=environment, check=True)
        assert source.wait() == 0


async def _sync(estate: Estate) -> None:
    ends = estate.endpoints
    async with session(ends["shared"], "bench") as here, session(ends["acme"], "bench") as there:
        await here.execute(
            f"CREATE PUBLICATION bench FOR TABLE public.entry WHERE (tenant_id = '{estate.tenant}')"
        )
        await there.execute(
            f"CREATE SUBSCRIPTION bench CONNECTION '{ends['shared'].dsn}' PUBLICATION bench WITH (run_as_owner)"
        )
        ready = "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel AS r JOIN pg_subscription AS s "
        while not await there.fetchval(ready + "ON s.oid = r.srsubid WHERE s.subname = 'bench'"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await drop_subscription(there, "bench")
        await drop_slot(here, "bench")
        await drop_publication(here, "bench")


async def _verification(work: MoveContext, rows: int, rounds: int) -> Row:
    async with session(work.target, "bench") as there:
        await there.execute("TRUNCATE public.entry")
    await _ours(work)
    table = next(t for t in work.plan.tables if t.name == "entry")
    work = replace(work, limits=Limits())
    wall, cpu = [], []
    async with session(work.source, "bench") as here, session(work.target, "bench") as there:
        servers = [here.get_server_pid(), there.get_server_pid()]
        for _ in range(1 + rounds):  # the first warms up
            before, started = sum(map(_cpu, servers)), time.monotonic()
            compared, differences = await compare_table(work, work.forward, table, here, there)
            wall.append(time.monotonic() - started)
            cpu.append(sum(map(_cpu, servers)) - before)
            assert compared >= rows, differences
            assert not differences, differences
    rate = 2 * compared / statistics.median(wall[1:])
    row_seconds = statistics.median(cpu[1:]) / (2 * compared)
    return Row(
        "full verification, over both sides",
        f"{rate:,.0f} rows/s",
        "at least 1,000,000 rows/s",
        verdict(rate >= 1_000_000),
        beside=f"{2 / row_seconds:,.0f} rows/s is what two cores could do with nothing else to do",
        note=f"{compared} rows of some 150 bytes on each side, median of {rounds}; limited by the servers' CPU "
        f"time, {row_seconds * 1e6:.2f} µs a row, most of it for the row's binary form; both servers on the same "
        "two cores",
        figures={"rows_per_s": rate, "server_cpu_s_per_row": row_seconds},
    )


def _cpu(pid: int) -> float:
    """Seconds that a local process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def memory(near: EmbeddedServer, far: EmbeddedServer, sizes: tuple[int, int]) -> Row:
    """Two moves, each by a process that does nothing else."""
    peaks, carried = [], []
    for rows in sizes:
        estate = await Estate.make(near, far, tenants=1, rows=10)
        await _filled(estate, rows, width=400)
        said = await asyncio.to_thread(_move, estate)
        assert said["verified_rows"] >= rows, said
        peaks.append(said["peak_bytes"])
        carried.append(said["copied_bytes"])
        estate.drop()
    slope = (peaks[1] - peaks[0]) / (carried[1] - carried[0])
    at_ten = peaks[1] + max(slope, 0.0) * (10 * _GB - carried[1])
    return Row(
        "memory of the mover",
        f"{peaks[1] / _MB:.0f} MB at its peak; at 10 GB {at_ten / _MB:.0f} MB by its slope",
        "at most 150 MB for 10 GB",
        verdict(at_ten <= 150 * _MB),
        beside=", ".join(
            f"{peak / _MB:.1f} MB for a tenant of {size / _GB:.2f} GB"
            for peak, size in zip(peaks, carried, strict=True)
        ),
        note="peak resident size of a process that makes the whole move (copy, comparison, flip, audit) and "
        f"nothing else, at {sizes[0]} and {sizes[1]} rows; slope {slope * 1000:.1f} MB per GB",
        figures={
            "peak_bytes": peaks[1],
            "peak_of_smaller_bytes": peaks[0],
            "slope": slope,
            "at_10_gb_bytes": at_ten,
        },
    )


def _move(estate: Estate) -> dict[str, int]:
    given = {
        "control": estate.control_dsn,
        "tenant": str(estate.tenant),
        "ends": {name: [end.kind.value, end.dsn] for name, end in estate.endpoints.items()},
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.mover"],
        input=json.dumps(given),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


async def _filled(estate: Estate, rows: int, width: int = 0) -> None:
    """Give the tenant its rows; `width`: bytes to each entry on top of the usual."""
    owner = await asyncpg.connect(estate.near.dsn(estate.shared))
    await fill(owner, estate.tenant, 0 if width else rows)
    if width:
        await owner.execute(
            "INSERT INTO entry (tenant_id, op, account, amount, currency, note) "
            "SELECT $1::uuid, gen_random_uuid(), 1 + i % 10, 0, 'EUR', repeat(md5(i::text), $3::int / 32) "
            "FROM generate_series(1, $2::int) AS i",
            estate.tenant,
            rows,
            width,
        )
    await owner.execute("VACUUM ANALYZE")
    await owner.close()


def _work(estate: Estate, plan: MovePlan) -> MoveContext:
    ends = estate.endpoints
    return MoveContext(
        plan, ends["shared"], ends["acme"], Journal(estate.control_dsn), _NoLease(), _PATIENT, silence, None
    )


class _NoLease(Lease):
    def __init__(self) -> None:
        """Nobody else is here."""

    async def check(self) -> None:
        """Always ours."""
