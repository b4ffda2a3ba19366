"""G7: a tenant that is being moved or was moved causes no failed request inside the caller's deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tenantry import DatabaseUnavailable, Router, TenantMoving
from tenantry.ids import TenantId
from tests.support.product import Product
from tests.support.quiet import nothing_leaked
from tests.support.until import until

INSERT = "INSERT INTO students (id, name) VALUES ($1, 'x')"


async def fetch_all(router: Router, tenant: TenantId, count: int) -> list[Any]:
    return list(await asyncio.gather(*(router.fetchval(tenant, "SELECT 1") for _ in range(count))))


async def test_callers_of_a_fenced_tenant_wait_outside_the_pool_and_none_fails(product: Product) -> None:
    """Fifty callers of a fenced tenant and one connection: the others are served meanwhile."""
    async with product.open(pool={"max": 1}) as router:
        fenced, other = await product.signed_up(router, 2)
        async with product.fence(fenced):
            parked = asyncio.create_task(fetch_all(router, fenced, 50))
            await until(lambda: len(router.fence_wait) == 1)
            for _ in range(20):
                assert await router.fetchval(other, "SELECT 1") == 1
            assert not parked.done()
        assert await parked == [1] * 50
        await nothing_leaked(router)


async def test_a_fence_that_is_only_asked_for_parks_newcomers_too(product: Product) -> None:
    async with product.open(pool={"max": 2}) as router, product.admin() as admin:
        [tenant] = await product.signed_up(router)
        async with router.tenant(tenant) as conn:
            await conn.fetchval("SELECT 1")  # bound from here on

            async def fence() -> None:
                async with product.fence(tenant):
                    pass

            asking = asyncio.create_task(fence())
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND classid = tenantry.lock_space()::oid"

            async def asked() -> bool:
                return bool(await admin.fetchval(waits))

            await until(asked)
            late = asyncio.create_task(router.fetchval(tenant, "SELECT 1"))
            await until(lambda: len(router.fence_wait) == 1)
            assert not late.done()
        await asking
        assert await late == 1
        await nothing_leaked(router)


async def test_a_deadline_beyond_the_pause_is_never_noticed_one_below_it_is_tenant_moving(
    product: Product,
) -> None:
    async with product.open(pool={"max": 1}) as router:
        [tenant] = await product.signed_up(router)
        async with product.fence(tenant):
            patient = asyncio.create_task(router.fetchval(tenant, "SELECT 1", timeout=20))
            with pytest.raises(TenantMoving) as moving:
                await router.fetchval(tenant, "SELECT 1", timeout=1)
            assert moving.value.tenant == tenant
            assert moving.value.waited >= 1
        assert await patient == 1
        await nothing_leaked(router)


async def test_a_directory_that_changes_during_the_fence_does_not_make_callers_spin(product: Product) -> None:
    """Told of a change that doesn't lift the fence, callers go on waiting; they do not eat the pool."""
    async with product.open(pool={"max": 1}) as router:
        fenced, other = await product.signed_up(router, 2)
        async with product.fence(fenced):
            parked = asyncio.create_task(fetch_all(router, fenced, 20))
            await until(lambda: len(router.fence_wait) == 1)
            for _ in range(5):
                router.directory.suspect_all()
                assert await router.fetchval(other, "SELECT 1") == 1
        assert await parked == [1] * 20
        await nothing_leaked(router)


async def test_a_tenant_that_was_moved_is_followed_by_callers_parked_and_new(product: Product) -> None:
    name = f"home_{abs(hash(product.new_id()))}"
    async with product.dedicated(name) as section, product.open(databases={name: section}) as router:
        [tenant] = await product.signed_up(router)
        home = section["dsn"].rpartition("/")[2]
        async with product.fence(tenant) as mover:
            parked = [asyncio.create_task(router.execute(tenant, INSERT, number)) for number in range(10)]
            await until(lambda: len(router.fence_wait) == 1)
            async with product.admin(home) as target:
                await target.execute("INSERT INTO tenantry.placement VALUES ($1, $2, 2)", str(tenant), name)
            await mover.execute(
                "UPDATE tenantry.placement SET database = $2, epoch = 2 WHERE tenant = $1", str(tenant), name
            )
        await asyncio.gather(*parked)
        assert await router.fetchval(tenant, "SELECT count(*) FROM students") == 10
        assert (await router.placement(tenant)).database == name
        async with product.admin() as admin:
            left = await admin.fetchval("SELECT count(*) FROM students WHERE tenant_id::text = $1", str(tenant))
        assert left == 0
        await nothing_leaked(router)


async def test_two_databases_that_point_at_each_other_end_in_a_typed_error_not_in_a_storm(direct: Product) -> None:
    name = f"home_{abs(hash(direct.new_id()))}"
    async with direct.dedicated(name) as section, direct.open(databases={name: section}) as router:
        [tenant] = await direct.signed_up(router)
        home = section["dsn"].rpartition("/")[2]
        async with direct.admin(home) as target, direct.admin() as source:
            await target.execute("INSERT INTO tenantry.placement VALUES ($1, 'shared', 3)", str(tenant))
            await source.execute(
                "UPDATE tenantry.placement SET database = $2, epoch = 2 WHERE tenant = $1", str(tenant), name
            )
        refusals = 0

        def count(event: object) -> None:
            nonlocal refusals
            refusals += type(event).__name__ == "DirectoryLookup"

        router.events.subscribe(count)
        with pytest.raises((TenantMoving, DatabaseUnavailable)):  # the deadline may meet it in a bind
            await router.fetchval(tenant, "SELECT 1", timeout=0.5)
        assert refusals <= 20
        await nothing_leaked(router)
