"""A slot goes although its reader comes back."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import replication
from tests.support.databases import database, drop_slots
from tests.support.until import until

NAME = "read_again"
READ = f"SELECT FROM pg_replication_slots WHERE slot_name = '{NAME}' AND active_pid IS NOT NULL"


@pytest.fixture
def published(pg18: EmbeddedServer, pg16: EmbeddedServer) -> Iterator[str]:
    """A database whose slot a subscription reads, which comes back 100 ms after each end (conftest's setting)."""
    with database(pg18) as name, database(pg16) as reader:
        pg18.psql("CREATE TABLE one (a int PRIMARY KEY); CREATE PUBLICATION one FOR TABLE one", name)
        pg18.psql(f"SELECT pg_create_logical_replication_slot('{NAME}', 'pgoutput')", name)
        pg16.psql("CREATE TABLE one (a int PRIMARY KEY)", reader)
        pg16.psql(
            f"CREATE SUBSCRIPTION one CONNECTION '{pg18.dsn(name)}' PUBLICATION one "
            f"WITH (create_slot = false, slot_name = {NAME}, copy_data = false)",
            reader,
        )
        yield name


@pytest.mark.parametrize("dropped_by", ["a move", "a test"])
async def test_a_slot_goes_although_its_reader_comes_back(
    pg18: EmbeddedServer, published: str, dropped_by: str
) -> None:
    connection = await asyncpg.connect(pg18.dsn(published))
    try:
        for _ in range(5):
            await until(lambda: pg18.psql(f"SELECT count(*) FROM ({READ}) s") == "1")
            if dropped_by == "a move":
                await replication.drop_slot(connection, NAME)
            else:
                drop_slots(pg18, f"slot_name = '{NAME}'")
            assert not await connection.fetch("SELECT FROM pg_replication_slots WHERE slot_name = $1", NAME)
            await connection.execute(f"SELECT pg_create_logical_replication_slot('{NAME}', 'pgoutput')")
    finally:
        await connection.close()
