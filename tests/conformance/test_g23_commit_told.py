"""G23: what a caller is told of its COMMIT is true: committed, not committed, or unknown."""

# ruff: noqa: PT012  (what raises is the end of the scope, so the whole scope stands in the block)

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from tenantry import CommitUnknown, Router, ScopeLost
from tests.support.product import Product
from tests.support.proxy import Proxy, Verdict
from tests.support.quiet import nothing_leaked
from tests.support.until import until

INSERT = "INSERT INTO students (id, name) VALUES ($1, 'x')"
#: Leaves so much for the reset that it takes longer than 1 ms.
LOAD = (
    "DO $$ BEGIN FOR i IN 1..1500 LOOP EXECUTE 'CREATE TEMP TABLE t' || i || ' (id int PRIMARY KEY)'; END LOOP; "
    "END $$"
)


async def rows(product: Product, tenant: Any) -> list[int]:
    """What is committed, past every router."""
    async with product.admin() as admin:
        found = await admin.fetch("SELECT id FROM students WHERE tenant_id::text = $1 ORDER BY id", str(tenant))
    return [row["id"] for row in found]


async def wait_for_the_line(router: Router) -> None:
    pool = router.pools.open_pools()["shared"]
    await until(lambda: pool.admission.waiting == 1)


@pytest.mark.parametrize("waiting", [False, True])
async def test_a_reset_that_fails_takes_nothing_back_of_what_is_committed(product: Product, waiting: bool) -> None:
    async with product.open(pool={"max": 1}) as router, product.admin() as admin:
        a, b = await product.signed_up(router, 2)
        next_one: asyncio.Task[Any] | None = None
        async with router.tenant(a) as conn:
            await conn.execute("SET LOCAL statement_timeout = 0")
            await conn.execute(LOAD)
            await conn.execute(  # at COMMIT, for what comes after it: 1 ms is not enough for the reset
                "DECLARE c CURSOR WITH HOLD FOR SELECT set_config('statement_timeout', '1ms', false)"
            )
            await conn.execute(INSERT, 1)
            if waiting:
                next_one = asyncio.create_task(router.fetchval(b, "SELECT count(*) FROM students"))
                await wait_for_the_line(router)
        assert await rows(product, a) == [1]
        if next_one is not None:
            assert await next_one == 0
        assert await router.fetchval(b, "SELECT count(*) FROM students") == 0
        assert await admin.fetchval("SELECT 1") == 1
        await nothing_leaked(router)


@pytest.mark.parametrize("waiting", [False, True])
async def test_a_commit_that_is_refused_is_told_as_refused_whoever_comes_next(
    product: Product, waiting: bool
) -> None:
    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        next_one: asyncio.Task[Any] | None = None
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            async with router.tenant(a) as conn:
                await conn.execute(INSERT, 1)
                await conn.execute("INSERT INTO courses (id) VALUES (1)")
                await conn.execute("INSERT INTO enrolments (student, course) VALUES (404, 1)")  # deferred
                if waiting:
                    next_one = asyncio.create_task(router.fetchval(b, "SELECT count(*) FROM students"))
                    await wait_for_the_line(router)
        assert await rows(product, a) == []
        if next_one is not None:
            assert await next_one == 0
        await nothing_leaked(router)


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize("verdict", [Verdict.CUT, Verdict.RESET, Verdict.CUT_AFTER])
async def test_a_connection_lost_in_the_commit_is_told_as_unknown_and_to_that_caller_only(
    direct: Product, verdict: Verdict, waiting: bool
) -> None:
    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 1}) as router:
            a, b = await direct.signed_up(router, 2)
            next_one: asyncio.Task[Any] | None = None
            with pytest.raises(CommitUnknown, match="committed or not") as told:
                async with router.tenant(a) as conn:
                    await conn.execute(INSERT, 1)
                    if waiting:
                        next_one = asyncio.create_task(router.fetchval(b, "SELECT count(*) FROM students"))
                        await wait_for_the_line(router)
                    proxy.stop_when(b"COMMIT", verdict=verdict)
            assert told.value.tenant == a
            assert told.value.__cause__ is not None
            if verdict is not Verdict.CUT_AFTER:
                assert await rows(direct, a) == []
            if next_one is not None:
                assert await next_one == 0
            await nothing_leaked(router)


async def test_a_scope_whose_statement_failed_is_told_so_and_not_that_nothing_was_written(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        (a,) = await direct.signed_up(router, 1)
        with pytest.raises(ScopeLost) as told:
            async with router.tenant(a) as conn:
                await conn.execute(INSERT, 1)
                await conn.execute("COMMIT; BEGIN")
                with pytest.raises(asyncpg.DivisionByZeroError):
                    await conn.execute("SELECT 1 / 0")
        assert await rows(direct, a) == [1]
        assert "nothing" not in str(told.value)
        await nothing_leaked(router)


async def test_an_opening_that_somebody_else_cancels_is_tried_again(fresh: Product) -> None:
    """As an operator does with pg_cancel_backend, or a cancel request that comes late."""
    async with fresh.admin() as admin, fresh.open(pool={"max": 1}) as router:
        (a,) = await fresh.signed_up(router, 1)
        await router.execute(a, INSERT, 1)
        # The opening waits for the placement's row, as a scope above READ COMMITTED does; there it is cancelled.
        async with admin.transaction():
            await admin.execute("SELECT FROM tenantry.placement WHERE tenant = $1 FOR UPDATE", str(a))

            async def serializable() -> Any:
                async with router.tenant(a, isolation="serializable") as conn:
                    return await conn.fetchval("SELECT count(*) FROM students")

            task = asyncio.create_task(serializable())

            async def cancelled() -> bool:
                return bool(
                    await admin.fetchval(
                        "SELECT bool_or(pg_cancel_backend(pid)) FROM pg_stat_activity "
                        "WHERE usename = 'product_app' AND wait_event_type = 'Lock' "
                        "AND datname = current_database()"
                    )
                )

            await until(cancelled)
        assert await task == 1
        await nothing_leaked(router)
