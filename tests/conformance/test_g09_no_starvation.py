"""G9: one tenant cannot starve the others of connections. (The decisions: tests/unit/router.)"""

from __future__ import annotations

import asyncio

from tests.support.product import Product
from tests.support.quiet import nothing_leaked
from tests.support.until import until


async def test_others_are_served_while_one_tenant_keeps_hundreds_waiting(product: Product) -> None:
    """In turns, not in time: the newcomers get through long before the line of the hoarder does."""
    async with product.open(pool={"max": 2}) as router:
        hoarder, *others = await product.signed_up(router, 6)
        await router.fetch(hoarder, "SELECT 1")
        line = [asyncio.create_task(router.fetchval(hoarder, "SELECT pg_sleep(0.001)")) for _ in range(300)]
        pool = router.pools.open_pools()["shared"]
        await until(lambda: pool.admission.waiting_for(str(hoarder)) > 250)
        await asyncio.gather(*(router.fetchval(other, "SELECT 1") for other in others))
        assert sum(task.done() for task in line) < 200
        await asyncio.gather(*line)
        await nothing_leaked(router)


async def test_one_tenant_never_holds_more_than_its_share_while_others_exist(product: Product) -> None:
    async with product.open(pool={"max": 4}) as router:
        hoarder, other = await product.signed_up(router, 2)
        await router.fetch(other, "SELECT 1")
        go = asyncio.Event()

        async def hold() -> None:
            async with router.tenant(hoarder):
                await go.wait()

        holders = [asyncio.create_task(hold()) for _ in range(6)]
        pool = router.pools.open_pools()["shared"]
        await until(lambda: pool.admission.held_by(str(hoarder)) == 3)
        for _ in range(5):
            assert await router.fetchval(other, "SELECT 1") == 1
            assert pool.admission.held_by(str(hoarder)) == 3
        go.set()
        await asyncio.gather(*holders)
        await nothing_leaked(router)


async def test_a_line_is_served_in_order_of_arrival(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        [tenant] = await product.signed_up(router)
        order: list[int] = []

        async def one(number: int) -> None:
            async with router.tenant(tenant):
                order.append(number)

        async with router.tenant(tenant):
            tasks = []
            pool = router.pools.open_pools()["shared"]
            for number in range(20):
                tasks.append(asyncio.create_task(one(number)))
                await until(lambda number=number: pool.admission.waiting == number + 1)  # type: ignore[misc]
        await asyncio.gather(*tasks)
        assert order == list(range(20))
