"""The directory on a real control database: single flight, absences, changes within moments, catching up."""

from __future__ import annotations

import asyncio

import pytest

from tenantry import RouterClosed, UnknownTenant
from tests.support.product import Product
from tests.support.proxy import Proxy
from tests.support.until import until


async def test_however_many_callers_one_lookup(direct: Product) -> None:
    looked_up: list[str] = []
    async with direct.open(
        sinks=(lambda e: looked_up.append(e.result) if type(e).__name__ == "DirectoryLookup" else None,)
    ) as router:
        feed = router._feed
        assert feed is not None
        await until(feed.listening.is_set)
        [tenant] = await direct.signed_up(router)
        router.directory.drop(tenant)
        looked_up.clear()
        await asyncio.gather(*(router.placement(tenant) for _ in range(50)))
        assert looked_up == ["loaded"]


async def test_an_absent_tenant_is_remembered_for_a_moment_and_found_when_it_comes(direct: Product) -> None:
    looked_up: list[str] = []
    async with (
        direct.open(
            sinks=(lambda e: looked_up.append(e.result) if type(e).__name__ == "DirectoryLookup" else None,)
        ) as router,
        direct.open() as other,
    ):
        feed = router._feed
        assert feed is not None
        await until(feed.listening.is_set)
        tenant = direct.new_id()
        for _ in range(3):
            with pytest.raises(UnknownTenant):
                await router.placement(tenant)
        assert looked_up == ["absent"] * 3
        await other.add_tenant(tenant)
        await until(lambda: tenant not in router.directory._absent)
        assert (await router.placement(tenant)).database == "shared"


async def test_a_change_is_told_by_notification(direct: Product) -> None:
    async with direct.open(control={"poll": 3600}) as router, direct.admin() as admin:
        feed = router._feed
        assert feed is not None
        await until(feed.listening.is_set)
        [tenant, other] = await direct.signed_up(router, 2)
        await router.placement(tenant)
        await until(lambda: True)
        await admin.execute("UPDATE tenantry.tenant SET weight = 7 WHERE id = $1", str(tenant))

        async def seen() -> bool:
            entry = await router.directory.lookup(tenant)
            return entry.profile.terms.weight == 7

        await until(seen)
        await admin.execute(
            "UPDATE tenantry.tenant SET plan = 'bulk' WHERE id = ANY($1)", [str(tenant), str(other)]
        )
        await until(lambda: router.directory.cached(other) is None)


async def test_a_bulk_change_puts_every_entry_in_doubt(direct: Product) -> None:
    async with direct.open(control={"poll": 3600}) as router, direct.admin() as admin:
        feed = router._feed
        assert feed is not None
        await until(feed.listening.is_set)
        tenants = [direct.new_id() for _ in range(70)]
        ids = [str(tenant) for tenant in tenants]
        await router.directory.store.import_tenants(ids, "shared")
        for tenant in tenants:
            await router.placement(tenant)
        await admin.execute("UPDATE tenantry.tenant SET plan = 'bulk' WHERE id = ANY($1)", ids)
        await until(lambda: all(router.directory.cached(tenant) is None for tenant in tenants))
        assert (await router.directory.lookup(tenants[0])).profile.plan == "bulk"


async def test_what_was_missed_while_not_listening_is_caught_up(direct: Product) -> None:
    async with Proxy(direct.server.host, direct.server.port) as control, direct.admin() as admin:
        dsn = control.dsn(direct.server.dsn(direct.database))
        async with direct.open(control={"dsn": dsn, "poll": 3600}) as router:
            feed = router._feed
            assert feed is not None
            await until(feed.listening.is_set)
            [tenant, untouched, last] = await direct.signed_up(router, 3)
            # News comes in order: once that of the last one is here, none of the others' signing up is under way.
            await admin.execute("UPDATE tenantry.tenant SET weight = 2 WHERE id = $1", str(last))
            await until(lambda: router.directory.cached(last) is None)
            for one in (tenant, untouched):
                await router.placement(one)
            await control.refuse()
            control.cut()
            await until(lambda: not feed.listening.is_set())
            for one in (tenant, untouched):
                assert router.directory.cached(one) is not None
            await admin.execute("UPDATE tenantry.tenant SET weight = 9 WHERE id = $1", str(tenant))
            await control.listen_again()
            await until(lambda: router.directory.cached(tenant) is None)


async def test_an_entry_that_changed_while_it_was_loaded_is_not_kept(direct: Product) -> None:
    async with direct.open() as router:
        feed = router._feed
        assert feed is not None
        await until(feed.listening.is_set)
        [tenant] = await direct.signed_up(router)
        router.directory.drop(tenant)
        loading = asyncio.create_task(router.directory.lookup(tenant))
        await asyncio.sleep(0)  # the task's first step: it has asked, and waits for the answer
        assert tenant in router.directory._loading
        router.directory.suspect({str(tenant): None})
        assert (await loading).text == str(tenant)
        assert router.directory.cached(tenant) is None


async def test_adding_a_tenant_many_times_at_once_places_it_once(direct: Product) -> None:
    async with direct.open() as router, direct.open() as other:
        tenant = direct.new_id()
        placements = await asyncio.gather(*(one.add_tenant(tenant) for one in (router, other) for _ in range(5)))
        assert len(set(placements)) == 1
        assert await other.fetchval(tenant, "SELECT 1") == 1


async def test_an_unknown_tenant_is_placed_in_the_default_database(direct: Product) -> None:
    async with direct.open(tenancy={"default_database": "shared"}) as router:
        tenant = direct.new_id()
        found = await asyncio.gather(*(router.fetchval(tenant, "SELECT 1") for _ in range(10)))
        assert found == [1] * 10
        assert (await router.placement(tenant)).epoch == 1


async def test_a_lookup_in_progress_when_the_router_closes_is_told(direct: Product) -> None:
    router = await direct.open()
    tenants = await direct.signed_up(router, 3)
    for tenant in tenants:
        router.directory.drop(tenant)
    asked = [asyncio.create_task(router.placement(tenant)) for tenant in tenants]
    await asyncio.sleep(0)
    await router.close()
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(not isinstance(a, BaseException) or isinstance(a, RouterClosed) for a in answers), answers
