"""Who waits for a connection, over a whole fleet: said by the routers while somebody does."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg

from tenantry import Config, Router
from tenantry.config import UsageSection
from tenantry.embedded import EmbeddedServer
from tenantry.ids import TenantId
from tenantry.usage.queue_reporter import QueueReporter, Queues, named_queues, waiting_callers
from tests.integration.usage.conftest import Pool
from tests.support.product import Product, product_on
from tests.support.until import until


def recording(product: Product) -> Config:
    config = product.config(pool={"max": 1})
    return config.model_copy(update={"usage": UsageSection(record=True, flush=0.2)})


def held(router: Router, tenant: TenantId) -> int:
    return sum(pool.admission.held_by(str(tenant)) for pool in router.pools.open_pools().values())


async def test_callers_that_wait_in_two_routers_are_added_up_and_gone_when_they_are_served(
    pg: EmbeddedServer,
) -> None:
    with product_on(pg) as product:
        async with (
            asyncpg.create_pool(pg.dsn(product.database), min_size=0) as control,
            Router.open(recording(product), metrics=False) as one,
            Router.open(recording(product), metrics=False) as two,
        ):
            holder, eager = await product.signed_up(one, 2)
            release = asyncio.Event()

            async def hold(router: Router) -> None:
                async with router.tenant(holder):
                    await release.wait()

            holding = [asyncio.create_task(hold(router)) for router in (one, two)]
            await until(lambda: held(one, holder) + held(two, holder) == 2)
            waiters = [
                asyncio.create_task(router.fetchval(eager, "SELECT 1")) for router in (one, one, one, two, two)
            ]

            async def seen() -> dict[tuple[str, str], int]:
                return await waiting_callers(control)

            async def both() -> bool:
                return await seen() == {("shared", str(eager)): 5}

            await until(both, seconds=30)
            release.set()
            await asyncio.gather(*holding, *waiters)

            async def nobody() -> bool:
                return await seen() == {}

            await until(nobody, seconds=30)


async def test_a_router_that_was_killed_has_nobody_waiting_after_three_turns(control: Pool) -> None:
    voice = QueueReporter(control, uuid4(), lambda: {("shared", "a"): 7}, every=10.0)
    assert await voice.report()
    assert await waiting_callers(control) == {("shared", "a"): 7}
    await control.execute("UPDATE tenantry.waiting SET said_at = said_at - interval '31 seconds'")

    assert await waiting_callers(control) == {}


async def test_while_nobody_waits_nothing_is_written(control: Pool) -> None:
    queues: Queues = {}
    voice = QueueReporter(control, uuid4(), lambda: queues)

    assert not await voice.report()
    queues = {("shared", "a"): 1}
    assert await voice.report()
    queues = {}
    assert await voice.report()
    assert not await voice.report()
    assert await control.fetchval("SELECT count(*) FROM tenantry.waiting WHERE queues = '[]'") == 1


def test_the_longest_queues_are_named_and_no_caller_is_left_out() -> None:
    queues = {("shared" if n % 2 else "acme", f"t{n}"): n for n in range(1, 201)}

    said = named_queues(queues)

    assert len(said) == 52
    assert said[0] == ("acme", "t200", 200)
    assert sum(count for _, _, count in said) == sum(queues.values())
    assert {database for database, tenant, _ in said if tenant == ""} == {"shared", "acme"}
