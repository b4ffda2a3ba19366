"""A control database with the ledger's tables, on PostgreSQL 16 and on 18."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.schema import migrations
from tenantry.usage.meter import Meter
from tests.support import databases

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

NOON = 1_795_262_400.0  # 2026-11-21 12:00 UTC


class Clock:
    """A wall clock and a monotonic one that go on when told to."""

    def __init__(self, at: float = NOON) -> None:
        self.wall = at
        self.steady = 1000.0

    def pass_(self, seconds: float) -> None:
        """Time passes on both clocks."""
        self.wall += seconds
        self.steady += seconds

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> Meter:
    return Meter(clock=clock.time)


@pytest.fixture
def control_name(pg: EmbeddedServer) -> Iterator[str]:
    """Name of a control database that has the schema."""
    with databases.control_database(pg) as name:
        yield name


@pytest.fixture
async def control(pg: EmbeddedServer, control_name: str) -> AsyncIterator[Pool]:
    """Connections to the control database."""
    async with asyncpg.create_pool(pg.dsn(control_name), min_size=0, max_size=8, statement_cache_size=0) as pool:
        yield pool


@pytest.fixture
def make_server() -> Iterator[EmbeddedServer]:
    """A server of the test's own, to be crashed, with the control schema in `postgres`."""
    with EmbeddedServer.start(16) as server:
        for step in migrations("control"):
            server.psql(step.text)
        yield server
