"""Closing is a contract: idempotent, bounded, new work refused at once, waiters told, scopes let end."""

# ruff: noqa: PT012  (what raises is the end of the scope, so the whole scope stands in the block)

from __future__ import annotations

import asyncio

import pytest

from tenantry import Router, RouterClosed, ScopeLost, TenantId
from tests.support.product import Product
from tests.support.until import until


async def test_waiters_of_a_capped_tenant_are_told_too(direct: Product) -> None:
    router = await direct.open(pool={"max": 4})
    a, b = await direct.signed_up(router, 2)
    await router.fetch(b, "SELECT 1")
    go = asyncio.Event()

    async def hold() -> None:
        async with router.tenant(a):
            await go.wait()

    pool = router.pools.open_pools()["shared"]
    holders = [asyncio.create_task(hold()) for _ in range(3)]
    await until(lambda: pool.admission.held_by(str(a)) == 3)
    waiting = [asyncio.create_task(router.fetchval(a, "SELECT 1")) for _ in range(5)]
    await until(lambda: pool.admission.waiting == 5)
    closing = asyncio.create_task(router.close(grace=30))
    for task in waiting:
        with pytest.raises(RouterClosed):
            await task
    with pytest.raises(RouterClosed):
        await router.fetchval(b, "SELECT 1")
    go.set()
    await asyncio.gather(*holders)
    await closing
    await router.close()
    assert router.pools.budget.used == 0
    assert await direct.backends() == 0


async def test_a_scope_that_does_not_end_is_cut_and_counted_once(direct: Product) -> None:
    router = await direct.open(pool={"max": 2})
    [a] = await direct.signed_up(router)
    with pytest.raises(ScopeLost) as lost:
        async with router.tenant(a) as conn:
            await conn.execute("INSERT INTO students (name) VALUES ('x')")
            await router.close(grace=0.01)
    assert lost.value.reason == "closed"
    assert router.pools.budget.used == 0
    assert router.pools.open_pools()["shared"].open == 0


def refuses(router: Router, tenant: TenantId) -> bool:
    """Whether the router takes no new scopes any more."""
    try:
        router.tenant(tenant)
    except RouterClosed:
        return True
    return False


async def test_closing_again_after_a_cancelled_close_finishes_it(direct: Product) -> None:
    router = await direct.open(pool={"max": 2})
    [a] = await direct.signed_up(router)
    go = asyncio.Event()

    async def hold() -> None:
        async with router.tenant(a):
            await go.wait()

    holder = asyncio.create_task(hold())
    await until(lambda: "shared" in router.pools.open_pools())
    await until(lambda: router.pools.open_pools()["shared"].state()["busy"] == 1)
    closing = asyncio.create_task(router.close(grace=30))
    await until(lambda: refuses(router, a))  # close has begun, and waits for the holder
    closing.cancel()
    await asyncio.wait([closing])
    go.set()
    await holder
    await router.close()
    assert router.pools.budget.used == 0
    feed = router._feed
    assert feed is not None
    assert not feed.listening.is_set()
