"""One tenant's data: how fast an archive is written and read, beside psql's COPY of the same rows, and the memory.

By turns, on one server: our export and import, in a process of their own, and psql's copy of the same tables: text
to a file, and from it into equal tables with their keys and indexes, in one transaction. An export has each row
hashed on the server besides; an import reads the file twice, compares hashes and looks at every foreign key.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.contract import Options, Row, verdict
from tenantry import Config, Operations
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tests.support.estate import SCHEMA, Estate, fill
from tests.support.installing import make_data

#: The tables, referenced ones first, with the columns that are stored.
_TABLES: Final = {
    "account": "tenant_id, id, balance",
    "entry": "tenant_id, id, op, account, amount, currency, note, at",
    '"Blob"': 'tenant_id, "Key", body, raw, tags, price, span, seen, kind, f',
}
_MB: Final = 1e6


async def run(options: Options) -> list[Row]:
    """Export, import, memory."""
    rows, rounds = (20_000, 1) if options.quick else (1_000_000, 3)
    with EmbeddedServer.start(options.version) as server, tempfile.TemporaryDirectory() as folder:
        estate = await Estate.make(server, server, tenants=1, rows=10)
        async with estate.admin("shared") as shared, estate.admin("acme") as acme:
            await fill(shared, estate.tenant, rows)
            await shared.execute("VACUUM ANALYZE")
            await make_data(acme, "app", name="acme", kind=Kind.DEDICATED)
            await acme.execute(SCHEMA.read_text())
        return await measured(estate, Path(folder), rounds)


async def measured(estate: Estate, folder: Path, rounds: int) -> list[Row]:
    """By turns."""
    ours: dict[str, list[dict[str, float]]] = {"export": [], "import": []}
    psql: dict[str, list[float]] = {"export": [], "import": []}
    async with Operations.open(Config.parse(_config(estate))) as ops:
        for number in range(rounds):
            file = folder / f"{number}.zip"
            ours["export"].append(await _ours(estate, "export", file))
            psql["export"].append(await _psql(estate, estate.shared, folder, _out(estate)))
            if number == 0:
                await ops.tenants.remove(estate.tenant)  # else it lives in the shared database
            await _emptied(estate)
            ours["import"].append(await _ours(estate, "import", file))
            await _emptied(estate)
            psql["import"].append(await _psql(estate, estate.dedicated, folder, _into()))
            file.unlink()
    peak = max(one["peak_bytes"] for each in ours.values() for one in each) / _MB
    return [*(_row(what, ours[what], psql[what]) for what in ours), _memory(peak, ours["export"][0]["rows"])]


def _row(what: str, ours: list[dict[str, float]], psql: list[float]) -> Row:
    # Neighbours in time were measured under the same load.
    ratio = statistics.median(theirs / mine["seconds"] for mine, theirs in zip(ours, psql, strict=True))
    rows = ours[0]["rows"]
    rate = rows / statistics.median(one["seconds"] for one in ours)
    return Row(
        f"{what} of one tenant's data",
        f"{rate:,.0f} rows/s, {ratio:.2f} x psql's COPY",
        "at least 0.7 x psql's COPY",
        verdict(ratio >= 0.7),
        beside=f"psql {rows / statistics.median(psql):,.0f} rows/s",
        note=f"{rows:,.0f} rows of three tables, {len(ours)} rounds by turns, medians; with hashes of every row"
        + (
            ", foreign keys and the file's checks; psql's foreign keys are checked by triggers"
            * (what == "import")
        ),
        figures={"rows_per_s": round(rate), "ratio": ratio},
    )


def _memory(peak: float, rows: float) -> Row:
    return Row(
        "memory of an export and an import",
        f"{peak:.0f} MB at most",
        "below 150 MB",
        verdict(peak < 150),
        note=f"peak of the process, the interpreter included, with {rows:,.0f} rows",
        figures={"peak_mb": peak},
    )


async def _ours(estate: Estate, what: str, file: Path) -> dict[str, float]:
    order = {"what": what, "config": _config(estate), "tenant": str(estate.tenant), "file": str(file)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.archiver", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate(json.dumps(order).encode())
    assert process.returncode == 0, f"the {what} failed"
    answer: dict[str, float] = json.loads(out)
    return answer


def _out(estate: Estate) -> list[str]:
    return [
        f"\\copy (SELECT {columns} FROM public.{table} WHERE tenant_id = '{estate.tenant}') TO '{number}.copy'"
        for number, (table, columns) in enumerate(_TABLES.items())
    ]


def _into() -> list[str]:
    each = [
        f"\\copy public.{table} ({columns}) FROM '{number}.copy'"
        for number, (table, columns) in enumerate(_TABLES.items())
    ]
    return ["BEGIN", *each, "COMMIT"]


async def _psql(estate: Estate, database: str, folder: Path, commands: list[str]) -> float:
    psql = [str(estate.near.bin("psql")), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", estate.near.dsn(database)]
    arguments = [word for command in commands for word in ("-c", command)]
    started = time.monotonic()
    await asyncio.to_thread(subprocess.run, [*psql, *arguments], cwd=folder, check=True)
    return time.monotonic() - started


async def _emptied(estate: Estate) -> None:
    async with estate.admin("acme") as acme:
        await acme.execute(f"TRUNCATE {', '.join(_TABLES)}")
        await acme.execute("CHECKPOINT")


def _config(estate: Estate) -> dict[str, Any]:
    server = estate.near
    return {
        "control": {"dsn": estate.control_dsn},
        "databases": {
            name: {"kind": kind, "dsn": server.dsn(database, user="app"), "operator_dsn": server.dsn(database)}
            for name, kind, database in (
                ("shared", "shared", estate.shared), ("acme", "dedicated", estate.dedicated)
            )
        },
    }  # fmt: skip
