"""One flight, two callers: it ends one scope, and opens the next one's on the same connection.

Whatever comes back, the first caller gets its own answer and the next one its own.
"""

# ruff: noqa: PT012  (what raises is the end of the scope, so the whole scope stands in the block)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tenantry import CommitUnknown, Router, TenantSuspended
from tenantry.ids import TenantId
from tests.support.product import Product
from tests.support.proxy import Proxy, Verdict
from tests.support.quiet import nothing_leaked
from tests.support.until import until

INSERT = "INSERT INTO students (id, name) VALUES ($1, 'x')"
BROKEN = "INSERT INTO enrolments (student, course) VALUES (404, 1)"


async def wait_for_the_line(router: Router, length: int = 1) -> None:
    pool = router.pools.open_pools()["shared"]
    await until(lambda: pool.admission.waiting == length)


async def second(router: Router, tenant: TenantId) -> str:
    """The next caller: writes a row of its own and says who it is."""
    async with router.tenant(tenant) as conn:
        await conn.execute(INSERT, 2)
        return str(await conn.fetchval("SELECT tenantry.current_tenant()::text"))


async def students(router: Router, tenant: TenantId) -> list[int]:
    return [row["id"] for row in await router.fetch(tenant, "SELECT id FROM students ORDER BY id")]


async def test_a_commit_that_fails_is_the_firsts_error_and_the_next_one_gets_its_scope(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        await router.execute(a, "INSERT INTO courses (id) VALUES (1)")
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            async with router.tenant(a) as conn:
                await conn.execute(BROKEN)  # deferred: fails at COMMIT
                await conn.execute(
                    "CREATE TEMP TABLE loot (i int); SET work_mem = '77MB'; SELECT nextval('students_id_seq')"
                )
                waiting = asyncio.create_task(second(router, b))
                await wait_for_the_line(router)
        assert await waiting == str(b)
        assert await students(router, b) == [2]
        assert await router.fetchval(a, "SELECT count(*) FROM enrolments") == 0
        assert await router.fetchval(b, "SHOW work_mem") != "77MB"
        await nothing_leaked(router)


async def test_a_failed_transaction_is_the_firsts_news_and_the_next_one_gets_its_scope(product: Product) -> None:
    from tenantry import ScopeLost

    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        with pytest.raises(ScopeLost) as lost:
            async with router.tenant(a) as conn:
                await conn.execute(INSERT, 1)
                with pytest.raises(asyncpg.DivisionByZeroError):
                    await conn.fetchval("SELECT 1 / 0")
                waiting = asyncio.create_task(second(router, b))
                await wait_for_the_line(router)
        assert lost.value.reason == "failed"
        assert await waiting == str(b)
        assert (await students(router, a), await students(router, b)) == ([], [2])
        await nothing_leaked(router)


@asynccontextmanager
async def first_with_a_waiter(
    product: Product, router: Router, a: TenantId, b: TenantId
) -> AsyncIterator[list[asyncio.Task[str]]]:
    """The first caller's scope, ended in the message that opens the second's; its own commit must succeed."""
    tasks: list[asyncio.Task[str]] = []
    async with router.tenant(a) as conn:
        await conn.execute(INSERT, 1)
        tasks.append(asyncio.create_task(second(router, b)))
        await wait_for_the_line(router)
        yield tasks


async def test_the_next_ones_bind_refused_by_a_fence_the_first_succeeds_and_the_next_waits(
    product: Product,
) -> None:
    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        async with product.fence(b):
            async with first_with_a_waiter(product, router, a, b) as tasks:
                pass
            await until(lambda: len(router.fence_wait) == 1)
            assert await students(router, a) == [1]  # parked outside the pool: its only connection is free
            assert not tasks[0].done()
        assert await tasks[0] == str(b)
        assert (await students(router, a), await students(router, b)) == ([1], [2])
        await nothing_leaked(router)


async def test_the_next_ones_bind_refused_as_suspended_the_first_succeeds(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router, product.admin() as admin:
        a, b = await product.signed_up(router, 2)
        async with first_with_a_waiter(product, router, a, b) as tasks:
            await admin.execute("UPDATE tenantry.placement SET suspended = true WHERE tenant = $1", str(b))
        with pytest.raises(TenantSuspended):
            await tasks[0]
        assert await students(router, a) == [1]
        await nothing_leaked(router)


async def test_the_next_ones_bind_refused_as_not_here_the_first_succeeds_the_next_follows(
    product: Product,
) -> None:
    name = f"home_{abs(hash(product.new_id()))}"
    async with (
        product.dedicated(name) as section,
        product.open(pool={"max": 1}, databases={name: section}) as router,
        product.admin() as admin,
    ):
        a, b = await product.signed_up(router, 2)
        elsewhere = section["dsn"].rpartition("/")[2]
        async with product.admin(elsewhere) as target:
            await target.execute("INSERT INTO tenantry.placement VALUES ($1, $2, 2)", str(b), name)
        async with first_with_a_waiter(product, router, a, b) as tasks:
            await admin.execute(
                "UPDATE tenantry.placement SET database = $2, epoch = 2 WHERE tenant = $1", str(b), name
            )
        assert await tasks[0] == str(b)
        assert await students(router, a) == [1]
        assert (await router.placement(b)).database == name
        assert await admin.fetchval("SELECT count(*) FROM students WHERE tenant_id::text = $1", str(b)) == 0
        await nothing_leaked(router)


@pytest.mark.parametrize("verdict", [Verdict.CUT, Verdict.RESET, Verdict.CUT_AFTER])
async def test_the_connection_cut_in_the_commit_is_told_to_the_first_only(
    direct: Product, verdict: Verdict
) -> None:
    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 1}) as router:
            a, b = await product.signed_up(router, 2)
            with pytest.raises(CommitUnknown):
                async with first_with_a_waiter(product, router, a, b) as tasks:
                    stop = proxy.stop_when(b"COMMIT", verdict=verdict)
            assert stop.passed.is_set()
            assert await tasks[0] == str(b)
            assert await students(router, b) == [2], "written once"
            if verdict is not Verdict.CUT_AFTER:
                assert await students(router, a) == []
            await nothing_leaked(router)


async def test_cancelled_in_the_fused_message_the_next_one_gets_its_scope(direct: Product) -> None:
    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 1}) as router:
            a, b = await product.signed_up(router, 2)
            seconds: list[asyncio.Task[str]] = []

            async def first() -> None:
                async with first_with_a_waiter(product, router, a, b) as tasks:
                    seconds.extend(tasks)
                    stop.append(proxy.stop_when(b"COMMIT", verdict=Verdict.HOLD))

            stop: list[Any] = []
            task = asyncio.create_task(first())
            await until(lambda: bool(stop) and stop[0].passed.is_set())
            task.cancel()
            await asyncio.sleep(0)
            proxy.release()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await seconds[0] == str(b)
            assert await students(router, b) == [2]
            await nothing_leaked(router)


async def test_cancelled_while_the_server_works_on_the_commit_nothing_of_it_stays(fresh: Product) -> None:
    async with fresh.admin() as admin:
        await admin.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON courses DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION slow()"
        )
        async with fresh.open(pool={"max": 1}) as router:
            a, b = await fresh.signed_up(router, 2)
            seconds: list[asyncio.Task[str]] = []

            async def first() -> None:
                async with router.tenant(a) as conn:
                    await conn.execute("INSERT INTO courses (id) VALUES (1)")
                    seconds.append(asyncio.create_task(second(router, b)))
                    await wait_for_the_line(router)

            task = asyncio.create_task(first())

            async def sleeping() -> bool:
                return bool(
                    await admin.fetchval(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                        "AND wait_event = 'PgSleep'"
                    )
                )

            await until(sleeping)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await seconds[0] == str(b)
            assert await router.fetchval(a, "SELECT count(*) FROM courses") == 0
            await nothing_leaked(router)
