"""G7: for the milliseconds in which the flip is committed and the new home has not heard of it, callers wait."""

from __future__ import annotations

import asyncio

from tenantry.events import DirectoryLookup
from tests.support.product import Product
from tests.support.quiet import nothing_leaked
from tests.support.until import until


async def test_a_new_home_that_has_not_heard_of_the_flip_is_waited_for(direct: Product) -> None:
    """Its row travels behind the flip. The old home and the directory know nothing better, so nobody asks them."""
    name = f"home_{abs(hash(direct.new_id()))}"
    async with direct.dedicated(name) as section, direct.open(databases={name: section}) as router:
        [tenant] = await direct.signed_up(router)
        asked: list[object] = []
        router.events.subscribe(lambda event: asked.append(event) if isinstance(event, DirectoryLookup) else None)
        home = section["dsn"].rpartition("/")[2]
        assert await router.fetchval(tenant, "SELECT 1") == 1
        async with direct.admin(home) as target, direct.admin() as source:
            await target.execute("INSERT INTO tenantry.placement VALUES ($1, 'shared', 1)", str(tenant))
            await source.execute(
                "UPDATE tenantry.placement SET database = $2, epoch = 2 WHERE tenant = $1", str(tenant), name
            )
            early = [asyncio.create_task(router.fetchval(tenant, "SELECT 1")) for _ in range(10)]
            await until(lambda: len(router.fence_wait) == 1)
            assert not any(task.done() for task in early)
            await target.execute(
                "UPDATE tenantry.placement SET database = $2, epoch = 2 WHERE tenant = $1", str(tenant), name
            )
        assert await asyncio.gather(*early) == [1] * 10
        assert not asked
        await nothing_leaked(router)
