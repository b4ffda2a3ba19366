"""No scope is left open, no query runs outside of scopes: told with whose it is, and where."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.testing import QueryOutsideScope, ScopeLeftOpen, Server, no_scope_left_open, only_in_scopes
from tests.integration.testing.conftest import Stage, stage_on

READ = "SELECT name FROM customers ORDER BY id"
WRITE = "INSERT INTO customers (tenant_id, id, name) VALUES (gen_random_uuid(), 9, 'Eve')"


@pytest.fixture(scope="module")
def server(pg18: EmbeddedServer) -> Server:
    return Server(pg18.dsn())


@pytest.fixture
async def stage(server: Server) -> AsyncIterator[Stage]:
    async with stage_on(server) as made:
        yield made


async def outside(stage: Stage, *statements: str) -> None:
    """What a product does that opens connections of its own."""
    connection = await asyncpg.connect(stage.product.dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_scopes_that_are_left_pass_whatever_way_they_end(stage: Stage) -> None:
    async with no_scope_left_open(stage.router):
        await stage.router.fetch(stage.a, READ)
        with pytest.raises(ZeroDivisionError):
            async with stage.router.tenant(stage.a):
                raise ZeroDivisionError
        async with stage.router.tenant(stage.a) as conn, stage.router.tenant(stage.b) as other:
            assert await conn.fetch(READ) == await other.fetch(READ)


async def test_a_scope_left_open_is_told_with_its_tenant_and_who_entered_it(stage: Stage) -> None:
    async def forgets() -> None:
        scopes.append(stage.router.tenant(stage.a))
        await scopes[0].__aenter__()

    scopes: list[Any] = []
    whose = rf"tenant {stage.a} on shared, entered by .*forgets.* has ended"
    with pytest.raises(ScopeLeftOpen, match=whose) as told:
        async with no_scope_left_open(stage.router, grace=0):
            await asyncio.create_task(forgets())
    assert len(told.value.scopes) == 1
    async with no_scope_left_open(stage.router):
        pass  # it was open before
    await scopes[0].__aexit__(None, None, None)


async def test_a_scope_that_another_task_is_ending_is_waited_for(stage: Stage) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def works() -> None:
        async with stage.router.tenant(stage.a) as conn:
            await conn.fetch(READ)
            entered.set()
            await leave.wait()

    async with no_scope_left_open(stage.router, grace=30):
        task = asyncio.create_task(works())
        await entered.wait()
        leave.set()
    assert not stage.router.pools.open_pools()["shared"].holders()
    await task


async def test_the_watch_is_entered_once_and_what_a_broken_off_one_left_is_taken_away(stage: Stage) -> None:
    async def nested() -> None:
        async with only_in_scopes(stage.product):
            pass

    async with only_in_scopes(stage.product):
        with pytest.raises(RuntimeError, match="already"):
            await nested()
        await stage.router.fetch(stage.a, READ)
    await stage.script("CREATE SCHEMA tenantry_testing; CREATE TABLE tenantry_testing.left_over (id int)")
    await nested()
    assert not await stage.sql("SELECT FROM pg_namespace WHERE nspname = 'tenantry_testing'")


async def test_a_tenant_is_promoted_and_taken_back_while_it_is_watched(stage: Stage) -> None:
    async with only_in_scopes(stage.product):
        home = await stage.product.promote(stage.a)
        assert await stage.router.fetchval(stage.a, "SELECT current_database()::text") == home
        assert len(await stage.router.fetch(stage.a, READ)) == 2
        await stage.product.take_back()
        assert len(await stage.router.fetch(stage.a, READ)) == 2


async def test_queries_in_scopes_pass_the_watch_and_nothing_of_it_stays(stage: Stage) -> None:
    before = await stage.sql("SELECT polname, polrelid FROM pg_policy ORDER BY 2, 1")
    async with only_in_scopes(stage.product):
        assert len(await stage.router.fetch(stage.a, READ)) == 2
        await stage.router.execute(stage.a, "INSERT INTO tokens DEFAULT VALUES")
        await stage.router.fetch(stage.a, "SELECT * FROM big_orders, counts, countries")
        async with stage.router.operator(reason="a report") as conn:
            assert await conn.fetchval("SELECT count(*) FROM customers") == 4
    assert await stage.sql("SELECT polname, polrelid FROM pg_policy ORDER BY 2, 1") == before
    assert not await stage.sql("SELECT FROM pg_namespace WHERE nspname = 'tenantry_testing'")


@pytest.mark.parametrize(
    "statements",
    [
        ["SELECT * FROM customers"],
        ["SELECT * FROM counts"],
        [WRITE],
        ["DELETE FROM tokens"],
        ["SET app.current_tenant = '{a}'", "SELECT * FROM customers"],
        ["BEGIN READ ONLY", "SELECT * FROM orders_2025"],
    ],
    ids=["read", "view", "insert", "delete", "a setting of its own", "read-only, a partition"],
)
async def test_a_query_outside_a_scope_fails_where_it_runs(stage: Stage, statements: list[str]) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="outside a tenant's scope") as told:
        async with only_in_scopes(stage.product):
            await outside(stage, *(one.replace("{a}", str(stage.a)) for one in statements))
    assert "router.tenant(id)" in str(told.value.hint)


async def test_a_query_on_an_empty_table_outside_a_scope_fails_too(stage: Stage) -> None:
    await stage.script("DELETE FROM tokens")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"query on public\.tokens outside"):
        async with only_in_scopes(stage.product):
            await outside(stage, "SELECT * FROM tokens WHERE token = 'x'")


async def test_a_query_outside_a_scope_whose_error_was_swallowed_is_told_at_the_end(stage: Stage) -> None:
    async def swallows() -> None:
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            await outside(stage, WRITE)

    with pytest.raises(QueryOutsideScope, match=r"1 on public\.customers") as told:
        async with only_in_scopes(stage.product):
            await swallows()
    assert told.value.tables == {"public.customers": 1}
