"""Tenants move out of real Citus and into it by the copy under the fence, while they work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from tenantry import Router
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tenantry.move import Endpoint, Limits, Mechanism, Mover, MoveStopped, State, failpoints
from tests.integration.citus.conftest import ROWS, TENANCY, Cluster, checksum


class Town:
    """A Citus and an ordinary server with an empty database for one tenant."""

    def __init__(self, cluster: Cluster, server: EmbeddedServer, database: str) -> None:
        self.cluster = cluster
        self.acme = server.dsn(database)
        self.server = server
        self.database = database

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        return {
            "shared": Endpoint("shared", Kind.SHARED, self.cluster.dsn),
            "acme": Endpoint("acme", Kind.DEDICATED, self.acme),
        }

    def mover(self, **limits: Any) -> Mover:
        found = Limits(**{"backoff": 0.1, "patience": 60.0, **limits})
        return Mover(self.cluster.dsn, self.endpoints, tenancy=TENANCY, limits=found)

    def open(self) -> Any:
        acme = {"kind": "dedicated", "dsn": self.server.dsn(self.database, user=self.cluster.app)}
        return Router.open(self.cluster.config(databases={"acme": acme}), metrics=False)

    async def there(self, tenant: int) -> list[tuple[int, Any]]:
        return [await checksum(self.acme, table, tenant) for table in ("account", "entry")]


@pytest.fixture
async def town(
    cluster: Cluster, pg18: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]
) -> AsyncIterator[Town]:
    role = f'"{cluster.app}"'
    pg18.psql(f"CREATE ROLE {role} LOGIN")
    database = make_database(pg18)
    yield Town(cluster, pg18, database)
    pg18.psql(f"DROP OWNED BY {role} CASCADE", database)
    pg18.psql(f"DROP ROLE {role}")


async def test_replication_is_refused_and_the_copy_is_offered_with_an_honest_estimate(town: Town) -> None:
    plan = await town.mover().plan("1", "acme")
    assert [one.code for one in plan.refusals] == ["distributed-tables"]
    plan = await town.mover().plan("1", "acme", consent=30.0)
    assert (plan.refusals, plan.mechanism, plan.load_schema) == ((), Mechanism.COPY, True)
    assert plan.rows == 10 + ROWS
    assert plan.bytes > 30 * ROWS


async def test_a_tenant_moves_out_and_back_in_while_it_works_and_no_write_is_lost(town: Town) -> None:
    cluster, mover = town.cluster, town.mover()
    others = [await cluster.checksums(tenant) for tenant in (2, 3)]
    done, stop = 0, asyncio.Event()

    async def work() -> None:
        nonlocal done
        while not stop.is_set():
            await router.execute(1, "INSERT INTO entry (account, amount) VALUES (1, -7)")
            done += 1

    async with town.open() as router:
        worker = asyncio.create_task(work())
        record = await mover.run(await mover.plan("1", "acme", consent=30.0))
        assert record.state is State.FLIPPED
        assert await router.fetchval(1, "SELECT current_database()") == town.database
        released = await mover.release(record.id)
        assert released.state is State.RELEASED
        assert (await cluster.checksums(1))[1][0] == 0, "the old rows are gone"
        back = await mover.run(await mover.plan("1", "shared", consent=30.0))
        assert back.state is State.FLIPPED
        stop.set()
        await worker
        assert await router.fetchval(1, "SELECT count(*) FROM entry WHERE amount = -7") == done > 0
        assert await router.fetchval(1, "SELECT count(*) FROM entry") == ROWS + done
        await mover.release(back.id)
    assert (await town.there(1))[1][0] == 0
    assert [await cluster.checksums(tenant) for tenant in (2, 3)] == others


async def test_release_deletes_in_batches_and_fires_no_cascade_on_the_workers(town: Town) -> None:
    mover = town.mover(delete_batch=70, delete_pause=0.0)
    record = await mover.run(await mover.plan("2", "acme", consent=30.0))
    told: list[Any] = []
    await mover.release(record.id, told.append)
    deleted = [(one.table, one.rows) for one in told if type(one).__name__ == "Deleted"]
    assert [rows for table, rows in deleted if "account" in table] == [10]
    assert [rows for table, rows in deleted if "entry" in table] == [70, 140, 210, 280, 300]


async def test_an_ordinary_database_gets_an_ordinary_schema_and_its_policies_hold_there(town: Town) -> None:
    mover = town.mover()
    await mover.run(await mover.plan("1", "acme", consent=30.0))
    connection = await asyncpg.connect(town.acme)
    try:
        assert await connection.fetch("SELECT extname FROM pg_extension WHERE extname LIKE 'citus%'") == []
        async with connection.transaction():
            await connection.execute("SELECT tenantry.bind('1')")
            await connection.execute(f'SET LOCAL ROLE "{town.cluster.app}"')
            assert await connection.fetchval("SELECT count(*) FROM entry") == ROWS
        async with connection.transaction():
            await connection.execute(f'SET LOCAL ROLE "{town.cluster.app}"')
            assert await connection.fetchval("SELECT count(*) FROM entry") == 0
    finally:
        await connection.close()


async def test_a_move_into_citus_that_was_given_up_leaves_no_row_there_and_the_tenant_where_it_was(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    mover = town.mover(attempts=2)
    out = await mover.run(await mover.plan("1", "acme", consent=30.0))
    await mover.release(out.id)
    before = await town.there(1)
    plan = await mover.plan("1", "shared", consent=30.0)

    def fail(point: str) -> None:
        if point == "copy.last_table":
            raise OSError("the network is gone")

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "reach", fail)
        with pytest.raises(MoveStopped):
            await mover.run(plan)
    record = await mover.abort(plan.id)
    assert record.state is State.ABORTED
    assert [rows for rows, _ in await town.cluster.checksums(1)] == [0, 0]
    assert await town.there(1) == before
    async with town.open() as router:
        assert await router.fetchval(1, "SELECT current_database()") == town.database
