"""200 dedicated databases, 50 connections, random traffic: what the server counted, and who waited longest."""

from __future__ import annotations

import asyncio
import random
from time import perf_counter
from typing import Any, Final
from uuid import UUID

from benchmarks import stage
from benchmarks.contract import Options, Row, verdict
from tenantry import Config, Router
from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType, Kind
from tenantry.schema import install_control, install_data

SAMPLE: Final = 0.02  # seconds between two looks at pg_stat_activity
TIMEOUT: Final = 30.0  # seconds: a caller that waits longer fails, and so does the benchmark


async def run(options: Options) -> list[Row]:
    """Two rows: the highest count, and the longest wait."""
    databases, budget, callers, seconds = (12, 4, 16, 4.0) if options.quick else (200, 50, 150, 30.0)
    with stage.server(options.version, {"max_connections": str(budget + 40)}) as server:
        tenants = stage.tenant_ids(databases)
        await build(server, tenants)
        async with Router.open(configuration(server, databases, budget), metrics=False) as router:
            over = asyncio.Event()
            watching = asyncio.create_task(watch(server, over))
            waits = await traffic(router, tenants, callers, seconds)
            over.set()
            highest, looks = await watching
    how = f"{databases} databases, {callers} callers, {seconds:.0f} s, {len(waits):,} scopes in all"
    longest = max(waits)
    return [
        Row(
            f"connections with {databases} dedicated databases and a budget of {budget}",
            f"{highest} at most",
            f"never more than {budget}",
            verdict(highest <= budget),
            "",
            f"{looks:,} samples of pg_stat_activity; {how}",
            {"connections": highest, "samples": looks},
        ),
        Row(
            "the longest wait for a scope there",
            f"{longest:.2f} s",
            f"nobody for ever: below {TIMEOUT:.0f} s",
            verdict(longest < TIMEOUT),
            "",
            f"{how}; the median waited {sorted(waits)[len(waits) // 2] * 1e3:.0f} ms: most scopes need a "
            "connection to another database closed and one opened, at most 100 a second",
            {"longest seconds": longest, "scopes": len(waits)},
        ),
    ]


async def build(server: EmbeddedServer, tenants: list[UUID]) -> None:
    """A control database, and a dedicated database for every tenant, copied from one."""
    scene = stage.Stage(server, "control")
    async with scene.owner("postgres") as connection:
        await connection.execute(f"CREATE ROLE {stage.APP} LOGIN")
        for name in ("control", "pattern"):
            await connection.execute(f"CREATE DATABASE {name}")
    async with scene.owner() as connection:
        await install_control(connection)
        names = [name_of(number) for number in range(len(tenants))]
        await connection.execute(
            "INSERT INTO tenantry.database (name, kind, dsn) SELECT unnest($1::text[]), 'dedicated', 'config'",
            names,
        )
        await connection.execute(
            "INSERT INTO tenantry.tenant (id, database) SELECT * FROM unnest($1::text[], $2::text[])",
            [str(tenant) for tenant in tenants],
            names,
        )
    async with scene.owner("pattern") as connection:
        await install(connection, "pattern", None)
    for number, tenant in enumerate(tenants):
        async with scene.owner("postgres") as connection:
            await connection.execute(f"CREATE DATABASE {name_of(number)} TEMPLATE pattern STRATEGY file_copy")
        async with scene.owner(name_of(number)) as connection:
            await install(connection, name_of(number), str(tenant))
            await connection.execute(
                "INSERT INTO tenantry.placement (tenant, database, epoch) VALUES ($1, $2, 1)",
                str(tenant),
                name_of(number),
            )


async def install(connection: Any, name: str, tenant: str | None) -> None:
    """tenantry's schema of a dedicated database."""
    await install_data(
        connection,
        name=name,
        kind=Kind.DEDICATED,
        setting=stage.SETTING,
        id_type=IdType.UUID,
        application_role=stage.APP,
        tenant=tenant,
    )


def name_of(number: int) -> str:
    """A dedicated database's name."""
    return f"dedicated_{number}"


def configuration(server: EmbeddedServer, databases: int, budget: int) -> Config:
    """All of them, and the budget."""
    return Config.parse(
        {
            "control": {"dsn": server.dsn("control")},
            "databases": {
                name_of(number): {
                    "kind": "dedicated",
                    "dsn": server.dsn(name_of(number), user=stage.APP),
                    "pool": {"max": 4},
                }
                for number in range(databases)
            },
            "router": {"connections": budget, "timeout": TIMEOUT},
        }
    )


async def watch(server: EmbeddedServer, over: asyncio.Event) -> tuple[int, int]:
    """The highest number of connections of the application's role that the server showed, and how many looks."""
    highest = looks = 0
    scene = stage.Stage(server, "postgres")
    async with scene.owner() as connection:
        while not over.is_set():
            count = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", stage.APP
            )
            highest, looks = max(highest, count), looks + 1
            await asyncio.sleep(SAMPLE)
    return highest, looks


async def traffic(router: Router, tenants: list[UUID], callers: int, seconds: float) -> list[float]:
    """Seconds that each caller waited for its scope."""
    waits: list[float] = []
    stop = perf_counter() + seconds

    async def call(dice: random.Random) -> None:
        while perf_counter() < stop:
            asked = perf_counter()
            async with router.tenant(dice.choice(tenants)) as connection:
                waits.append(perf_counter() - asked)
                await connection.execute("SELECT pg_sleep(0.005)")

    await asyncio.gather(*(call(random.Random(number)) for number in range(callers)))
    return waits
