"""A product's own work goes on while its tenant is really promoted and taken back; work that fails is told of."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tenantry import ScopeLost
from tenantry.embedded import EmbeddedServer
from tenantry.ids import TenantId
from tenantry.testing import MoveNoticed, Product, ScopeLeftOpen, Server, assert_work_survives_move, two_tenants
from tests.integration.testing.conftest import SCHEMA, TABLES, Stage, seed, stage_on
from tests.support.until import until


@pytest.fixture
async def stage(pg18: EmbeddedServer) -> AsyncIterator[Stage]:
    async with stage_on(Server(pg18.dsn())) as made:
        yield made


async def homes(stage: Stage) -> dict[str, str]:
    rows = await stage.sql("SELECT id, database FROM tenantry.tenant")
    return {row["id"]: row["database"] for row in rows}


async def test_a_tenant_is_really_promoted_and_taken_back_with_what_it_wrote_there(stage: Stage) -> None:
    before = (await stage.sql("SELECT count(*) FROM pg_database"))[0][0]
    home = await stage.product.promote(stage.a)
    assert (await homes(stage))[str(stage.a)] == home
    assert set(stage.product.databases) == {stage.product.database, home}
    assert await stage.router.fetchval(stage.a, "SELECT current_database()::text") == home
    assert await stage.router.fetchval(stage.b, "SELECT current_database()::text") == stage.product.database
    await stage.router.execute(stage.a, "INSERT INTO customers (id, name) VALUES (7, 'Gus')")

    await stage.product.take_back()
    assert (await homes(stage))[str(stage.a)] == "shared"
    assert await stage.router.fetchval(stage.a, "SELECT name FROM customers WHERE id = 7") == "Gus"
    assert (await stage.sql("SELECT count(*) FROM pg_database"))[0][0] == before
    assert set(stage.product.databases) == {stage.product.database}


async def test_work_through_the_router_survives_a_move_and_every_row_of_it_is_there(stage: Stage) -> None:
    numbers = itertools.count(100)
    written = []

    async def work(tenant: TenantId) -> None:
        number = next(numbers)
        async with stage.router.tenant(tenant) as conn:
            await conn.execute("INSERT INTO customers (id, name) VALUES ($1, 'x')", number)
            assert await conn.fetchval("SELECT name FROM customers WHERE id = $1", number) == "x"
        written.append(number)

    report = await assert_work_survives_move(stage.product, stage.a, work, callers=3, calls=5)
    assert all(report.calls[when] for when in ("before", "promoted", "back"))
    rows = await stage.sql("SELECT id FROM customers WHERE tenant_id = $1 AND id >= 100", stage.a)
    assert {row["id"] for row in rows} >= set(written)
    assert (await homes(stage))[str(stage.a)] == "shared"


async def test_work_with_a_connection_of_its_own_is_told_to_notice_the_move(stage: Stage) -> None:
    async def work(tenant: TenantId) -> None:
        connection = await asyncpg.connect(stage.product.dsn)
        try:
            async with connection.transaction():
                await connection.execute("SELECT set_config('app.current_tenant', $1, true)", str(tenant))
                assert await connection.fetch("SELECT * FROM customers")
        finally:
            await connection.close()

    with pytest.raises(MoveNoticed, match=r"has noticed(.|\n)*promoted: .*does not live in database") as told:
        await assert_work_survives_move(stage.product, stage.a, work, callers=1, calls=2)
    assert told.value.calls["before"]
    assert told.value.calls["back"]
    assert (await homes(stage))[str(stage.a)] == "shared"


async def test_work_that_cancels_itself_or_never_ends_is_told_instead_of_waited_for(stage: Stage) -> None:
    async def cancelled(tenant: TenantId) -> None:
        raise asyncio.CancelledError

    async def stuck(tenant: TenantId) -> None:
        await asyncio.Event().wait()

    with pytest.raises(MoveNoticed, match=r"did not end within 0\.1 s"):
        await assert_work_survives_move(stage.product, stage.a, stuck, calls=1, patience=0.1)
    assert set(stage.product.databases) == {stage.product.database}
    with pytest.raises(MoveNoticed, match="CancelledError"):
        await assert_work_survives_move(stage.product, stage.a, cancelled, callers=1, calls=1)


async def test_a_promotion_that_was_cancelled_is_taken_back_too(stage: Stage) -> None:
    databases = (await stage.sql("SELECT count(*) FROM pg_database"))[0][0]
    promotion = asyncio.create_task(stage.product.promote(stage.a))

    async def running() -> bool:
        return bool(await stage.sql("SELECT FROM tenantry.move WHERE state = 'running'"))

    await until(running)
    promotion.cancel()
    await asyncio.gather(promotion, return_exceptions=True)
    await stage.product.take_back()
    assert (await homes(stage))[str(stage.a)] == "shared"
    assert len(await stage.router.fetch(stage.a, "SELECT * FROM customers")) == 2
    assert (await stage.sql("SELECT count(*) FROM pg_database"))[0][0] == databases
    assert not await stage.sql("SELECT FROM pg_replication_slots WHERE database = current_database()")


async def test_clean_up_takes_everything_of_tenants_and_nothing_else(pg18: EmbeddedServer) -> None:
    reference = "INSERT INTO countries VALUES ('de');"
    async with (
        Product.installed(Server(pg18.dsn()), SCHEMA + reference, tables=TABLES) as product,
        product.router() as router,
    ):
        async with two_tenants(router, seed) as (a, _):
            await product.promote(a)
        await product.clean()
        async with product.server.connect(product.database) as owner:
            for table in ("customers", "orders", '"Odd Names"."Line Item"', "tokens", "tenantry.tenant"):
                assert await owner.fetchval(f"SELECT count(*) FROM {table}") == 0, table
            assert await owner.fetchval("SELECT count(*) FROM countries") == 1
        await router.add_tenant(a)  # the same tenant, in the next test
        async with router.tenant(a) as conn:
            assert await conn.fetch("SELECT * FROM customers") == []
            await seed(conn)
        assert len(await router.fetch(a, "SELECT * FROM orders")) == 2


async def test_clean_up_says_that_a_scope_was_left_open_and_cleans_all_the_same(stage: Stage) -> None:
    scope = stage.router.tenant(stage.a)
    await (await scope.__aenter__()).fetch("SELECT * FROM customers")
    with pytest.raises(ScopeLeftOpen, match=r"last statement was: SELECT \* FROM customers"):
        await stage.product.clean()
    assert (await stage.sql("SELECT count(*) FROM customers"))[0][0] == 0
    with pytest.raises(ScopeLost):
        await scope.__aexit__(None, None, None)
