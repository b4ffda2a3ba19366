"""The denominator on real servers: load from anywhere counts; resets and crashes are handled."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.usage.totals import Collector, read
from tests.integration.usage.conftest import Pool


async def work(server: EmbeddedServer, database: str, seconds: float) -> None:
    """Keep the database executing, from outside of any router; its statistics are in at the end."""
    connection = await asyncpg.connect(server.dsn(database))
    try:
        await connection.execute(f"SELECT pg_sleep({seconds})")
        await connection.execute("SELECT pg_stat_force_next_flush()")
        await connection.execute("SELECT 1")
    finally:
        await connection.close()


async def totals(control: Pool, database: str = "shared") -> tuple[float, float]:
    row = await control.fetchrow(
        "SELECT coalesce(sum(busy_seconds), 0) AS busy, coalesce(sum(covered_seconds), 0) AS covered "
        "FROM tenantry.database_usage WHERE database = $1",
        database,
    )
    assert row is not None
    return row["busy"], row["covered"]


async def test_load_that_came_through_no_router_is_counted(
    pg: EmbeddedServer, database: str, control: Pool
) -> None:
    collector = Collector("shared", control)
    connection = await asyncpg.connect(pg.dsn(database))
    began = time.monotonic()
    try:
        assert await collector.collect(connection, 0.0) == []
        await work(pg, database, 0.5)
        await collector.collect(connection, 0.6)
    finally:
        await connection.close()

    busy, covered = await totals(control)
    assert 0.5 <= busy < 2 * (time.monotonic() - began), "two sessions can't have worked for longer"
    assert covered > 0.5


async def test_two_collectors_at_once_count_the_load_once(
    pg: EmbeddedServer, database: str, control: Pool
) -> None:
    connections = [await asyncpg.connect(pg.dsn(database)) for _ in range(4)]
    collectors = [Collector("shared", control) for _ in connections]
    try:
        await collectors[0].collect(connections[0], 0.0)
        before = await read(connections[0])
        await work(pg, database, 0.4)
        for _ in range(5):
            await asyncio.gather(
                *(
                    collector.collect(connection, 1.0)
                    for collector, connection in zip(collectors, connections, strict=True)
                )
            )
        await collectors[0].collect(connections[0], 2.0)
        after = await read(connections[0])
    finally:
        for connection in connections:
            await connection.close()

    assert before is not None
    assert after is not None
    busy, _ = await totals(control)
    assert busy == pytest.approx(after.busy - before.busy, abs=0.2)


async def test_resetting_the_servers_statistics_does_not_count_anything_twice(
    pg: EmbeddedServer, database: str, control: Pool
) -> None:
    collector = Collector("shared", control)
    connection = await asyncpg.connect(pg.dsn(database))
    try:
        await collector.collect(connection, 0.0)
        await work(pg, database, 0.3)
        await collector.collect(connection, 0.3)
        first, _ = await totals(control)
        await connection.execute("SELECT pg_stat_reset()")
        await collector.collect(connection, 0.4)
        await work(pg, database, 0.3)
        await collector.collect(connection, 0.8)
    finally:
        await connection.close()

    busy, _ = await totals(control)
    assert first >= 0.3
    assert first + 0.3 <= busy < first + 1.0


@pytest.mark.parametrize("end", ["crash", "restart"])
async def test_over_a_crash_or_a_restart_nothing_is_counted_twice(make_server: EmbeddedServer, end: str) -> None:
    server = make_server
    server.psql("CREATE DATABASE data")
    before, _ = await worked(server)
    if end == "crash":
        server.crash()
    server.restart()
    after, covered = await worked(server)

    assert before >= 0.4
    assert before + 0.4 <= after < before + 1.5
    assert covered > 0.4


async def worked(server: EmbeddedServer) -> tuple[float, float]:
    """A collector's life: two readings around some work; returns the totals after it."""
    connection = await asyncpg.connect(server.dsn("data"))
    try:
        async with asyncpg.create_pool(server.dsn(), min_size=0) as control:
            collector = Collector("shared", control)
            await collector.collect(connection, 0.0)
            await work(server, "data", 0.4)
            await collector.collect(connection, 0.4)
            return await totals(control)
    finally:
        await connection.close()
