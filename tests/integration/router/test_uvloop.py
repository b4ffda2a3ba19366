"""The router on uvloop, which keeps the bound methods of a transport's protocol."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import uvloop

from tenantry.embedded import EmbeddedServer
from tests.support.product import Product, product_on
from tests.support.quiet import nothing_leaked


def test_scopes_hand_offs_rollbacks_and_one_shots_work_on_uvloop(pg18: EmbeddedServer) -> None:
    with product_on(pg18) as product, ThreadPoolExecutor(1) as thread:  # a loop runs in pytest's own thread
        thread.submit(uvloop.run, _use(product)).result()


async def _use(product: Product) -> None:
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    async with product.open(pool={"max": 2}) as router:
        tenants = await product.signed_up(router, 4)

        async def write(number: int) -> None:
            async with router.tenant(tenants[number % 4]) as conn:
                await conn.execute("INSERT INTO students (name) VALUES ($1)", f"s{number}")

        await asyncio.gather(*(write(number) for number in range(40)))
        for tenant in tenants:
            assert await router.fetchval(tenant, "SELECT count(*) FROM students") == 10
        try:
            async with router.tenant(tenants[0]) as conn:
                await conn.execute("DELETE FROM students")
                raise RuntimeError("on purpose")
        except RuntimeError:
            pass
        assert await router.fetchval(tenants[0], "SELECT count(*) FROM students") == 10
        await nothing_leaked(router)
