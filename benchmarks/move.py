"""The move: what clients see of a flip under load, and how fast rows are copied and compared.

Pause: one tenant goes to and fro between two servers while nine clients of three tenants work; the history checker
of the fault tests counts failed, lost and doubled writes afterwards. Copy: our pipe, a binary `psql | psql` pipe
and the built-in table sync by turns, into the same indexed table. Both ends and all clients share this machine.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import asyncpg

from benchmarks.contract import Options, Row, verdict
from tenantry.embedded import EmbeddedServer
from tenantry.move import FenceTried, Limits, Progress, State
from tenantry.move.copy import copy_table
from tenantry.move.endpoint import session
from tenantry.move.journal import Journal, Lease
from tenantry.move.plan import MovePlan
from tenantry.move.progress import silence
from tenantry.move.publish import drop_publication, drop_slot, drop_subscription
from tenantry.move.verify import compare_table
from tenantry.move.work import Work
from tests.faults.estate import Estate, fill
from tests.faults.load import OK, check, load


async def run(options: Options) -> list[Row]:
    """Pause, then copy and verification."""
    with EmbeddedServer.start(18) as near, EmbeddedServer.start(18) as far:
        rows = await pauses(near, far, 4 if options.quick else 50)
    with EmbeddedServer.start(18) as near, EmbeddedServer.start(18) as far:
        return rows + await rates(near, far, 20_000 if options.quick else 1_000_000, 1 if options.quick else 3)


async def pauses(near: EmbeddedServer, far: EmbeddedServer, flips: int) -> list[Row]:
    """Flips to and fro under load."""
    estate = await Estate.make(near, far)
    mover = estate.mover(limits=Limits())
    fenced: list[float] = []
    windows: list[tuple[float, float]] = []

    def tell(event: Progress) -> None:
        if isinstance(event, FenceTried) and event.flipped:
            now = time.monotonic()
            fenced.append(event.pause)
            windows.append((now - event.pause - 0.1, now + 1.0))

    async with load(estate) as running:
        for _ in range(flips // 2):
            record = await mover.run(await mover.plan(estate.tenant, "acme"), tell)
            await running.reach(estate.tenant, 5)
            assert (await mover.rollback(record.id, tell)).state is State.ROLLED_BACK
            await running.reach(estate.tenant, 5)
    counts = await check(estate, running)
    mine = running.operations(estate.tenant)
    seen = [
        max((o.ended - o.started for o in mine if start <= o.ended and o.started <= end), default=0.0)
        for start, end in windows
    ]
    usual = statistics.median(o.ended - o.started for o in mine)
    worst, p99 = max(seen), statistics.quantiles(seen, n=100, method="inclusive")[98]
    return [
        Row(
            "client-seen pause at the flip, under load",
            f"p99 {p99 * 1000:.0f} ms, longest {worst * 1000:.0f} ms",
            "p99 at most 250 ms, never above 800 ms",
            verdict(p99 <= 0.25 and worst <= 0.8),
            beside=f"a usual operation {usual * 1000:.1f} ms; the fence at most {max(fenced) * 1000:.0f} ms",
            note=f"{len(seen)} flips, half of them rollbacks; 9 clients, {counts[OK]} operations, on one machine",
            figures={
                "p99_s": p99,
                "longest_s": worst,
                "median_s": statistics.median(seen),
                "fence_s": max(fenced),
            },
        ),
        Row(
            "failed requests, lost or doubled writes over those flips",
            "0, 0",
            "0, 0",
            verdict(True),
            note="the history checker ends the benchmark otherwise",
            figures={"operations": float(counts[OK])},
        ),
    ]


async def rates(near: EmbeddedServer, far: EmbeddedServer, rows: int, rounds: int) -> list[Row]:
    """Copy by turns, then compare."""
    estate = await Estate.make(near, far, tenants=1, rows=10)
    owner = await asyncpg.connect(near.dsn(estate.shared))
    await fill(owner, estate.tenant, rows)
    await owner.execute("ANALYZE")
    await owner.close()
    # A finished move leaves the target with the whole schema; the copies are then made by hand.
    mover = estate.mover(limits=Limits(stall=600))
    record = await mover.run(await mover.plan(estate.tenant, "acme"))
    await estate.fetch("acme", "ALTER TABLE entry DROP CONSTRAINT entry_tenant_id_account_fkey")
    work = _work(estate, record.plan)
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "ours": lambda: _ours(work),
        "psql | psql, binary": lambda: _psql(estate),
        "built-in table sync": lambda: _sync(estate),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            await estate.fetch("acme", "TRUNCATE entry")
            await estate.fetch("acme", "CHECKPOINT")
            started = time.monotonic()
            await way()
            seconds[name].append(time.monotonic() - started)
    rate = {name: rows / statistics.median(taken) for name, taken in seconds.items()}
    ratio = rate["ours"] / rate["psql | psql, binary"]
    copy = Row(
        "copy of a tenant's rows into an indexed table",
        f"{rate['ours']:,.0f} rows/s, {ratio:.2f} x a binary psql | psql pipe",
        "at least 0.8 x the pipe",
        verdict(ratio >= 0.8),
        beside=", ".join(f"{name} {value:,.0f} rows/s" for name, value in rate.items() if name != "ours"),
        note=f"{rows} rows, {rounds} rounds by turns, medians",
        figures={name: round(value) for name, value in rate.items()},
    )
    return [copy, await _verification(work, rows), _memory()]


def _memory() -> Row:
    return Row(
        "memory of the mover",
        f"{peak() / 1e6:.0f} MB at its peak",
        "at most 150 MB",
        verdict(peak() <= 150_000_000),
        note="this process, clients and checker of the pause benchmark included",
        figures={"peak_bytes": float(peak())},
    )


def _work(estate: Estate, plan: MovePlan) -> Work:
    ends = estate.endpoints
    journal = Journal(estate.control_dsn)
    return Work(plan, ends["shared"], ends["acme"], journal, _NoLease(), Limits(stall=600), silence, None)


class _NoLease(Lease):
    def __init__(self) -> None:
        """Nobody else is here."""

    async def check(self) -> None:
        """Always ours."""


async def _ours(work: Work) -> None:
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
    psql = str(estate.near.bin("psql"))

    def pipe() -> None:
        first = subprocess.Popen(
            [psql, "-X", "-q", "-d", estate.near.dsn(estate.shared), "-c", out], stdout=subprocess.PIPE
        )
        environment = {"PGOPTIONS": "-c session_replication_role=replica"}
        subprocess.run(
            [psql, "-X", "-q", "-d", estate.far.dsn(estate.dedicated), "-c", into],
            stdin=first.stdout,
            env=environment,
            check=True,
        )
        assert first.wait() == 0

    await asyncio.to_thread(pipe)


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


async def _verification(work: Work, rows: int) -> Row:
    await _ours_again(work)
    table = next(t for t in work.plan.tables if t.name == "entry")
    work = replace(work, limits=Limits())
    async with session(work.source, "bench") as here, session(work.target, "bench") as there:
        started = time.monotonic()
        compared, differences = await compare_table(work, table, here, there)
        taken = time.monotonic() - started
    assert compared >= rows, differences
    assert not differences, differences
    rate = 2 * compared / taken
    return Row(
        "full verification, over both sides",
        f"{rate:,.0f} rows/s",
        "at least 1,000,000 rows/s",
        verdict(rate >= 1_000_000),
        note=f"{compared} rows on each side, hashtextextended of whole rows; both servers on the same two cores",
        figures={"rows_per_s": rate},
    )


async def _ours_again(work: Work) -> None:
    async with session(work.target, "bench") as there:
        await there.execute("TRUNCATE public.entry")
    await _ours(work)


def peak() -> int:
    """Peak memory of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0
