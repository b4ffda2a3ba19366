"""G11: a cancelled or timed-out caller never leaks a connection, a queue place, or a half-open scope.

Each path of a checkout is walked with a cancellation after the first turn of the event loop, then after the
second, and so on until the caller gets through; the books are exact after each.
"""

# ruff: noqa: PT012  (what raises is the end of the scope, so the whole scope stands in the block)

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from tenantry import DatabaseUnavailable, Router, TenantBusy, TenantMoving
from tenantry.ids import TenantId
from tests.support.product import Product
from tests.support.proxy import Proxy
from tests.support.quiet import nothing_leaked
from tests.support.until import until

INSERT = "INSERT INTO students (name) VALUES ('x')"
PATIENCE = 60.0  # seconds; on a busy machine the network takes many turns of the loop


async def cancelled_after(turns: int, work: Callable[[], Awaitable[Any]], done: Callable[[], bool]) -> bool:
    """Run `work`, and cancel it after so many turns of the loop. Returns whether it got through."""
    task = asyncio.ensure_future(work())
    for _ in range(turns):
        if task.done():
            break
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        assert not done() or task.cancelled()
        return False
    return True


async def at_every_await(
    router: Router, work: Callable[[], Awaitable[Any]], check: Callable[[], Awaitable[None]]
) -> int:
    """Cancel after 0, 1, 2 … turns until the work gets through; then at random between."""
    turns, step = 0, 1
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not await cancelled_after(turns, work, lambda: False):
        await check()
        turns += step
        if turns > 60:  # from here on most turns wait for the network: longer steps
            step = 1 + turns // 20
        assert asyncio.get_running_loop().time() < deadline, "never gets through"
    await check()
    return turns


async def test_a_checkout_of_an_idle_connection_cancelled_at_every_await(product: Product) -> None:
    async with product.open(pool={"max": 2}) as router:
        a, b = await product.signed_up(router, 2)
        await router.fetch(a, "SELECT 1")

        async def work() -> None:
            async with router.tenant(a) as conn:
                await conn.execute(INSERT)
                await conn.fetchval("SELECT count(*) FROM students")

        async def check() -> None:
            await nothing_leaked(router)
            assert await router.fetchval(b, "SELECT count(*) FROM students") == 0
            assert await router.fetchval(b, "SELECT tenantry.current_tenant()::text") == str(b)

        assert await at_every_await(router, work, check) > 5


async def test_a_first_checkout_lookup_and_connecting_cancelled_at_every_await(product: Product) -> None:
    async with product.open(pool={"max": 2}) as router:
        [a] = await product.signed_up(router)
        pool = await router.pools.get("shared")

        async def work() -> None:
            await router.fetch(a, "SELECT 1")

        async def check() -> None:
            await nothing_leaked(router)
            while pool.close_idle():  # the next one has to look up and to connect again
                pass
            router.directory.drop(a)
            await nothing_leaked(router)

        assert await at_every_await(router, work, check) > 5


async def test_a_checkout_in_the_queue_cancelled_at_every_await(product: Product) -> None:
    """The only connection goes round between others; hand-offs meet cancelled heirs."""
    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        await router.fetch(a, "SELECT 1")
        stop = asyncio.Event()

        async def neighbour() -> int:
            scopes = 0
            while not stop.is_set():
                async with router.tenant(b) as conn:
                    assert await conn.fetchval("SELECT tenantry.current_tenant()::text") == str(b)
                scopes += 1
            return scopes

        neighbours = [asyncio.create_task(neighbour()) for _ in range(3)]

        async def work() -> None:
            async with router.tenant(a) as conn:
                assert await conn.fetchval("SELECT tenantry.current_tenant()::text") == str(a)

        async def check() -> None:
            assert router.pools.open_pools()["shared"].admission.waiting_for(a) == 0

        try:
            for _ in range(2):
                await at_every_await(router, work, check)
        finally:
            stop.set()
        assert all(await asyncio.gather(*neighbours))
        await nothing_leaked(router)


async def test_a_parked_caller_cancelled_at_every_await(product: Product) -> None:
    async with product.open(pool={"max": 2}) as router:
        a, b = await product.signed_up(router, 2)
        await router.fetch(a, "SELECT 1")

        async def work() -> None:
            await router.fetch(a, "SELECT 1")

        async with product.fence(a):
            for turns in [*range(0, 40), *range(40, 400, 24)]:
                assert not await cancelled_after(turns, work, lambda: False)
                await nothing_leaked(router)
        await work()
        assert await router.fetchval(b, "SELECT 1") == 1
        await nothing_leaked(router)


async def test_a_cancellation_that_comes_twice_is_no_different(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        await router.fetch(a, "SELECT 1")

        async def work() -> None:
            async with router.tenant(a) as conn:
                await conn.execute(INSERT)

        for first in range(0, 30):
            for second in (0, 1, 3):
                task = asyncio.create_task(work())
                for turns in (first, second):
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                await asyncio.wait([task])
                await nothing_leaked(router)
        assert await router.fetchval(b, "SELECT count(*) FROM students") == 0


async def test_a_statement_cancelled_in_the_scope_rolls_back_and_frees_the_connection(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        [a] = await product.signed_up(router)

        async def work() -> None:
            async with router.tenant(a) as conn:
                await conn.execute(INSERT)
                await conn.execute("SELECT pg_sleep(600)")

        task = asyncio.create_task(work())
        pool = await router.pools.get("shared")
        await until(lambda: pool.state()["busy"] == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await router.fetchval(a, "SELECT count(*) FROM students") == 0
        await nothing_leaked(router)


async def _hold(router: Router, tenant: TenantId, go: asyncio.Event) -> None:
    async with router.tenant(tenant):
        await go.wait()


async def test_a_deadline_in_the_queue_is_tenant_busy_and_leaves_nothing(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        go = asyncio.Event()
        holder = asyncio.create_task(_hold(router, a, go))
        pool = await router.pools.get("shared")
        await until(lambda: pool.state()["busy"] == 1)
        with pytest.raises(TenantBusy) as busy:
            await router.fetch(b, "SELECT 1", timeout=0.05)
        assert busy.value.tenant == b
        assert busy.value.retry_after >= 0
        assert pool.admission.waiting == 0
        go.set()
        await holder
        assert await router.fetchval(b, "SELECT 1") == 1
        await nothing_leaked(router)


async def test_a_full_queue_is_tenant_busy_for_that_tenant_only(product: Product) -> None:
    async with product.open(pool={"max": 1}, router={"queue": 2}) as router:
        a, b = await product.signed_up(router, 2)
        go = asyncio.Event()
        holder = asyncio.create_task(_hold(router, a, go))
        pool = await router.pools.get("shared")
        await until(lambda: pool.state()["busy"] == 1)
        waiting = [asyncio.create_task(router.fetch(a, "SELECT 1")) for _ in range(2)]
        await until(lambda: pool.admission.waiting == 2)
        with pytest.raises(TenantBusy) as busy:
            await router.fetch(a, "SELECT 1")
        assert busy.value.waiting == 2
        other = asyncio.create_task(router.fetch(b, "SELECT 1"))
        await until(lambda: pool.admission.waiting == 3)
        go.set()
        await asyncio.gather(holder, *waiting, other)
        await nothing_leaked(router)


async def test_a_deadline_shorter_than_the_fence_is_tenant_moving_and_leaves_nothing(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        async with product.fence(a):
            with pytest.raises(TenantMoving):
                await router.fetch(a, "SELECT 1", timeout=1)
            await nothing_leaked(router)
            assert await router.fetchval(b, "SELECT 1") == 1
        await nothing_leaked(router)


async def test_a_server_that_does_not_answer_costs_the_caller_its_deadline_and_the_pool_nothing(
    direct: Product,
) -> None:
    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 2}, router={"connect_timeout": 1}) as router:
            a, b = await product.signed_up(router, 2)
            await router.fetch(a, "SELECT 1")
            proxy.hold()
            with pytest.raises(DatabaseUnavailable):
                await router.fetch(a, "SELECT 1", timeout=0.1)
            proxy.cut()
            assert await router.fetchval(b, "SELECT 1") == 1
            await nothing_leaked(router)


async def test_work_that_raises_anything_leaves_nothing(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        [a] = await product.signed_up(router)
        for error in (KeyError(), asyncpg.InterfaceError("mine"), OSError(), GeneratorExit(), SystemError()):
            with pytest.raises(type(error)):
                async with router.tenant(a) as conn:
                    await conn.execute(INSERT)
                    raise error
            assert await router.fetchval(a, "SELECT count(*) FROM students") == 0
        await nothing_leaked(router)
