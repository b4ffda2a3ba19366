"""G10: connections never exceed the budgets, per database and per process, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

from tests.support.product import APP, Product
from tests.support.quiet import nothing_leaked

DATABASES, BUDGET = 16, 4


async def test_many_dedicated_databases_share_a_small_budget_which_the_server_never_sees_exceeded(
    fresh: Product,
) -> None:
    dice = random.Random(7)
    async with AsyncExitStack() as stack:
        sections = {}
        for number in range(DATABASES):
            name = f"d{number}"
            sections[name] = await stack.enter_async_context(fresh.dedicated(name))
        databases = [fresh.database, *(section["dsn"].rpartition("/")[2] for section in sections.values())]
        router = await stack.enter_async_context(
            fresh.open(databases=sections, router={"connections": BUDGET, "timeout": 60}, pool={"max": 3})
        )
        tenants = [(await fresh.signed_up(router, database=name))[0] for name in sections]
        tenants += await fresh.signed_up(router, 2, database="shared")
        admin = await stack.enter_async_context(fresh.admin())
        seen: list[int] = []
        done = asyncio.Event()

        async def sample() -> None:
            query = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND datname = ANY($2)"
            while not done.is_set():
                seen.append(await admin.fetchval(query, APP, databases))

        async def caller() -> None:
            for _ in range(15):
                tenant = dice.choice(tenants)
                assert await router.fetchval(tenant, "SELECT tenantry.current_tenant()::text") == str(tenant)

        sampler = asyncio.create_task(sample())
        await asyncio.gather(*(caller() for _ in range(20)))
        done.set()
        await sampler
        assert seen
        assert max(seen) <= BUDGET
        await nothing_leaked(router)
        assert router.pools.budget.used <= BUDGET


async def test_a_pool_never_has_more_than_its_size(product: Product) -> None:
    async with product.open(pool={"max": 3}) as router:
        tenants = await product.signed_up(router, 5)
        most = 0

        async def caller(number: int) -> None:
            nonlocal most
            async with router.tenant(tenants[number % 5]) as conn:
                most = max(most, router.pools.open_pools()["shared"].open)
                await conn.fetchval("SELECT pg_sleep(0.001)")

        await asyncio.gather(*(caller(number) for number in range(60)))
        assert most <= 3
        await nothing_leaked(router)


async def test_a_busy_pool_gives_a_connection_up_to_one_that_waits(fresh: Product) -> None:
    async with fresh.dedicated("acme") as section:
        limits = {"connections": 1, "timeout": 30}
        async with fresh.open(databases={"acme": section}, router=limits) as router:
            [own] = await fresh.signed_up(router, database="acme")
            [other] = await fresh.signed_up(router, database="shared")
            stop = asyncio.Event()

            async def load() -> None:
                while not stop.is_set():
                    await router.fetchval(other, "SELECT 1")

            busy = [asyncio.create_task(load()) for _ in range(4)]
            for _ in range(3):
                assert await router.fetchval(own, "SELECT 1") == 1
            stop.set()
            await asyncio.gather(*busy)
            await nothing_leaked(router)
