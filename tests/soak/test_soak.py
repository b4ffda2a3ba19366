"""A thousand tenants, fifty callers at a time, everything that can go wrong in a scope going wrong at random.

For some seconds, and by `make long` for half a minute.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from typing import Any

import pytest

from tests.support.product import Product
from tests.support.quiet import nothing_leaked
from tests.support.variants import Products

TENANTS, CALLERS, LIMIT = 1000, 50, 8

lasting = pytest.mark.parametrize("seconds", [4.5, pytest.param(30.0, marks=pytest.mark.long)])


class Mishap(Exception):
    """Ends a scope by an exception."""


@lasting
@pytest.mark.timeout(180)
async def test_a_thousand_tenants_and_fifty_callers_leave_nothing_behind(fresh: Product, seconds: float) -> None:
    await soak(fresh, seconds, pooled=False)


@lasting
@pytest.mark.timeout(180)
async def test_a_thousand_tenants_and_fifty_callers_through_pgbouncer_leave_nothing_behind(
    products: Products, seconds: float
) -> None:
    await soak(products("pg16-pgbouncer-uuid"), seconds, pooled=True)


async def soak(product: Product, lasting: float, *, pooled: bool) -> None:
    """Behind a pooler the server's connections are the pooler's, so there the router's own count is looked at."""
    dice = random.Random(5)
    loop = asyncio.get_running_loop()
    limits = {"connections": LIMIT, "timeout": 60}
    async with product.open(pool={"max": LIMIT}, router=limits) as router, product.admin() as admin:
        tenants = [product.new_id() for _ in range(TENANTS)]
        ids = [str(tenant) for tenant in tenants]
        await router.directory.store.import_tenants(ids, "shared")
        await admin.executemany("SELECT tenantry.enroll($1, 1)", [(one,) for one in ids])
        written: dict[Any, int] = dict.fromkeys(tenants, 0)
        most, scopes = 0, 0

        async def scope() -> None:
            tenant = dice.choice(tenants[:10] if dice.random() < 0.5 else tenants)
            async with router.tenant(tenant) as conn:
                assert await conn.fetchval("SELECT tenantry.current_tenant()::text") == str(tenant)
                seen = await conn.fetchval("SELECT count(*) FROM students")
                assert seen >= 0
                await conn.execute("INSERT INTO students (name) VALUES ('x')")
                if dice.random() < 0.1:
                    await conn.execute("CREATE TEMP TABLE loot (i int); SET work_mem = '77MB'; LISTEN x")
                if dice.random() < 0.1:
                    raise Mishap
            written[tenant] += 1

        async def caller(until: float) -> None:
            nonlocal scopes
            while loop.time() < until:
                task = asyncio.create_task(scope())
                if dice.random() < 0.1:
                    for _ in range(dice.randrange(20)):
                        await asyncio.sleep(0)
                    task.cancel()
                try:
                    await task
                except (Mishap, asyncio.CancelledError):
                    continue
                scopes += 1

        async def watch(until: float) -> None:
            nonlocal most
            while loop.time() < until:
                most = max(most, router.pools.budget.used, 0 if pooled else await product.backends())
                await asyncio.sleep(0.01)

        async def load(seconds: float) -> None:
            until = loop.time() + seconds
            await asyncio.gather(watch(until), *(caller(until) for _ in range(CALLERS)))
            await nothing_leaked(router)
            gc.collect()

        await load(lasting / 3)
        tracemalloc.start()
        try:
            await load(lasting / 3)
            before = tracemalloc.get_traced_memory()[0]
            await load(lasting / 3)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert scopes > 100
        assert most <= LIMIT, "more connections than the budget"
        assert grown < 2_000_000, "memory grows with use"
        counted = await admin.fetch("SELECT tenant_id, count(*) AS n FROM students GROUP BY 1")
        stored = {row["tenant_id"]: row["n"] for row in counted}
        # A scope cancelled in its COMMIT may have been committed: never fewer rows than were acknowledged.
        assert all(stored.get(tenant, 0) >= count for tenant, count in written.items())
    assert router.pools.budget.used == 0
    assert pooled or await product.backends() == 0
