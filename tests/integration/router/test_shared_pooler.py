"""Two routers share PgBouncer's few server connections: neither keeps one for good."""

from __future__ import annotations

import asyncio

from tenantry.embedded import EmbeddedServer
from tests.support.pgbouncer import PgBouncer
from tests.support.product import product_on


async def test_a_router_with_callers_waiting_lets_other_clients_of_pgbouncer_have_a_turn(
    pg18: EmbeddedServer,
) -> None:
    """A message that ends one scope and opens the next never shows PgBouncer an idle connection."""
    with (
        PgBouncer.start(pg18, "transaction", pool_size=1) as bouncer,
        product_on(pg18, via=bouncer.instead) as product,
    ):
        async with product.open(pool={"max": 1}) as greedy, product.open(pool={"max": 1}) as modest:
            [tenant] = await product.signed_up(greedy)
            stop = asyncio.Event()

            async def work() -> int:
                done = 0
                while not stop.is_set():
                    async with greedy.tenant(tenant) as conn:
                        await conn.fetchval("SELECT 1")
                    done += 1
                return done

            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(work()) for _ in range(4)]
                try:
                    async with asyncio.timeout(30):
                        for _ in range(20):
                            assert await modest.fetchval(tenant, "SELECT 2", timeout=20) == 2
                finally:
                    stop.set()
            assert all(worker.result() > 0 for worker in workers)
