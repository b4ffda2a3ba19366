"""The command line over 200 databases and 100,000 tenants: `check`, and the lists.

Every database is one of its own, with a product's tables and tenantry's schema, on one server; 12 are shared, the
others hold a tenant each. The ledger has 14 days of every tenant. Each command is a program of its own, as people
and cron run it: the seconds are a wall clock's, imports included, the best of some runs.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import asyncpg
import yaml

from benchmarks import stage
from benchmarks.contract import Options, Row, verdict
from benchmarks.processor import server_seconds
from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tests.support.databases import new_database, new_database_like
from tests.support.installing import make_control, make_data, make_policies

SHARED: Final = 12
DATABASES: Final = 200
TENANTS: Final = 100_000
DAYS: Final = 14
TABLES: Final = 10
#: Commands with the seconds that they may take; findings (exit code 1) are an answer.
COMMANDS: Final[Sequence[tuple[tuple[str, ...], float]]] = (
    (("check",), 5.0),
    (("tenants", "list"), 2.0),
    (("tenants", "list", "--database", "tenant150"), 2.0),
    (("databases", "list"), 2.0),
    (("placements", "check"), 2.0),
    (("usage",), 2.0),
    (("candidates",), 2.0),
    (("balance", "--plan"), 2.0),
    (("moves", "list"), 2.0),
    (("apply", "--plan"), 2.0),
)

_TENANTS: Final = """
INSERT INTO tenantry.tenant (id, database, plan, created_at, placed_at)
SELECT md5(i::text)::uuid::text, CASE WHEN i <= $3 THEN 'tenant' || i - 1 ELSE 'shared' || i % $2 END, 'basic',
       now() - interval '60 d', now() - interval '60 d'
FROM generate_series(1, $1::int) AS i
"""
_USED: Final = """
INSERT INTO tenantry.usage_day (day, database, tenant, busy_seconds, commits, statements)
SELECT (now() AT TIME ZONE 'UTC')::date - d, t.database, t.id, 1 + abs(hashtext(t.id)) % 100 / 50.0, 100, 300
FROM tenantry.tenant AS t, generate_series(1, $1::int) AS d
"""
_TOTALS: Final = """
INSERT INTO tenantry.database_usage_day (day, database, busy_seconds, covered, reported, final, attributed_seconds)
SELECT day, database, sum(busy_seconds), 1, 1, true, sum(busy_seconds) FROM tenantry.usage_day GROUP BY 1, 2
"""


async def run(options: Options) -> list[Row]:
    """One row a command."""
    databases, tenants, times = (6, 1_000, 1) if options.quick else (DATABASES, TENANTS, 3)
    shared = min(SHARED, databases // 2)
    names = [f"shared{n}" for n in range(shared)] + [f"tenant{n}" for n in range(databases - shared)]
    with stage.server(options.version, {"max_connections": "300"}) as server, TemporaryDirectory() as folder:
        path = Path(folder) / "tenantry.yaml"
        await asyncio.to_thread(make_files, server, names, path)
        await fill(server, names, shared, tenants)
        rows = []
        for command, bound in COMMANDS:
            best = min([await asyncio.to_thread(timed, server, path, command) for _ in range(times)])
            figures = {"s": best.seconds, "own s": best.own, "server s": best.server}
            rows.append(
                Row(
                    f"`tenantry {' '.join(command)}` over {databases} databases and {tenants:,} tenants",
                    f"{best.seconds:.2f} s",
                    f"at most {bound:.0f} s",
                    verdict(best.seconds <= bound),
                    note=f"processor time: {best.own:.2f} s its own, {best.server:.2f} s of the server of all "
                    f"databases, on the same two cores; {best.size:,} bytes of JSON",
                    figures={name: round(value, 3) for name, value in figures.items()},
                )
            )
        return rows


def make_files(server: EmbeddedServer, names: Sequence[str], path: Path) -> None:
    """The databases, copies of one, and the configuration that names them."""

    async def prepare(name: str) -> None:
        connection = await asyncpg.connect(server.dsn(name))
        try:
            await connection.execute("CREATE ROLE app LOGIN")
            await make_data(connection, "app", name="shared0", kind=Kind.SHARED)
            for number in range(TABLES):
                await connection.execute(
                    f"CREATE TABLE t{number} (tenant_id uuid NOT NULL, id bigint NOT NULL, at timestamptz, "
                    "text text, PRIMARY KEY (tenant_id, id))"
                )
            await make_policies(connection, [f"t{n}" for n in range(TABLES)], "app", Tenancy())
        finally:
            await connection.close()

    for name in names:
        made = new_database_like(server, "cli_scale", prepare)
        server.psql(f'ALTER DATABASE "{made}" RENAME TO "{name}"')
    control = new_database(server, "control")
    server.psql(f'ALTER DATABASE "{control}" RENAME TO control')
    sections = {
        name: {
            "kind": "shared" if name.startswith("shared") else "dedicated",
            "dsn": server.dsn(name, user="app"),
            "operator_dsn": server.dsn(name),
        }
        for name in names
    }
    path.write_text(yaml.safe_dump({"control": {"dsn": server.dsn("control")}, "databases": sections}))


async def fill(server: EmbeddedServer, names: Sequence[str], shared: int, tenants: int) -> None:
    """The databases' own names, the directory and the ledger."""
    for name in names:
        kind = "shared" if name.startswith("shared") else "dedicated"
        connection = await asyncpg.connect(server.dsn(name))
        await connection.execute("UPDATE tenantry.database_identity SET name = $1, kind = $2", name, kind)
        await connection.close()
    control = await asyncpg.connect(server.dsn("control"))
    try:
        await make_control(
            control, **{name: Kind.SHARED if name.startswith("shared") else Kind.DEDICATED for name in names}
        )
        await control.execute(_TENANTS, tenants, shared, len(names) - shared)
        await control.execute(_USED, DAYS)
        await control.execute(_TOTALS)
        await control.execute("VACUUM ANALYZE")
    finally:
        await control.close()


class Timed(NamedTuple):
    """One run of a command."""

    seconds: float
    own: float
    """Seconds of its own process's processor."""
    server: float
    """The same of the databases' server, which stands on this machine too."""
    size: int
    """Bytes of JSON."""


def timed(server: EmbeddedServer, path: Path, command: Sequence[str]) -> Timed:
    """Run one command.

    Raises:
        RuntimeError: it failed, or said no JSON.
    """
    program = [sys.executable, "-m", "tenantry", "-c", str(path), *command, "--json"]
    before, at_server = resource.getrusage(resource.RUSAGE_CHILDREN), server_seconds(server)
    began = time.perf_counter()
    done = subprocess.run(program, capture_output=True, check=False)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{command}: {done.returncode}: {done.stderr.decode()[-500:]}")
    json.loads(done.stdout)
    return Timed(took, own, server_seconds(server) - at_server, len(done.stdout))
