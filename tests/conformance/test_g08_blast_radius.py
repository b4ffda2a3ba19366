"""G8: a dead dedicated database harms its own tenant alone; a dead control database nobody who is cached."""

from __future__ import annotations

import asyncio

import pytest

from tenantry import CommitUnknown, DatabaseUnavailable, Router
from tenantry.embedded.server import free_port
from tests.support.product import Product
from tests.support.proxy import Proxy
from tests.support.quiet import nothing_leaked
from tests.support.until import until


async def asked(router: Router, tenant: object, connections: int = 4) -> object:
    """What a one-shot answers. A connection that breaks under one is told as CommitUnknown, once for each."""
    for _ in range(connections):
        try:
            return await router.fetchval(tenant, "SELECT 1")  # type: ignore[arg-type]
        except CommitUnknown:
            continue
    return await router.fetchval(tenant, "SELECT 1")  # type: ignore[arg-type]


async def test_a_dead_dedicated_database_harms_its_own_tenant_alone_and_heals(direct: Product) -> None:
    name = f"home_{abs(hash(direct.new_id()))}"
    async with Proxy(direct.server.host, direct.server.port) as proxy, direct.dedicated(name) as section:
        section["dsn"] = proxy.dsn(section["dsn"])
        async with direct.open(databases={name: section}, router={"connect_timeout": 2}) as router:
            [own] = await direct.signed_up(router, database=name)
            [other] = await direct.signed_up(router)
            assert await router.fetchval(own, "SELECT 1") == 1
            await proxy.refuse()
            proxy.cut()
            for _ in range(5):
                with pytest.raises(DatabaseUnavailable) as down:
                    await asked(router, own)
                assert down.value.database == name
                assert await router.fetchval(other, "SELECT 1") == 1
            assert down.value.retry_after is not None
            await nothing_leaked(router)
            await proxy.listen_again()

            async def heals() -> bool:
                try:
                    return bool(await router.fetchval(own, "SELECT 1"))
                except DatabaseUnavailable:
                    return False

            await until(heals)
            await nothing_leaked(router)


async def test_a_refusing_database_is_left_alone_not_stormed(direct: Product) -> None:
    """Hundreds of callers, few connection attempts: what is refused once is told to all."""
    name = f"home_{abs(hash(direct.new_id()))}"
    async with Proxy(direct.server.host, direct.server.port) as proxy, direct.dedicated(name) as section:
        async with direct.open(databases={name: section}) as router:
            [own] = await direct.signed_up(router, database=name)
        section["dsn"] = proxy.dsn(section["dsn"])
        proxy.accepting = False
        async with direct.open(databases={name: section}) as router:
            answers = await asyncio.gather(
                *(router.fetchval(own, "SELECT 1") for _ in range(300)), return_exceptions=True
            )
            assert {type(answer) for answer in answers} == {DatabaseUnavailable}
            assert proxy.connections <= 20
            await nothing_leaked(router)


async def test_a_dead_control_database_harms_nobody_whose_placement_is_cached(direct: Product) -> None:
    async with Proxy(direct.server.host, direct.server.port) as control:
        dsn = control.dsn(direct.server.dsn(direct.database))
        async with direct.open(control={"dsn": dsn}) as router:
            [cached, uncached] = await direct.signed_up(router, 2)
            feed = router._feed
            assert feed is not None
            await until(feed.listening.is_set)
            await router.placement(cached)
            router.directory.drop(uncached)
            await control.refuse()
            control.cut()
            await until(lambda: not feed.listening.is_set())
            for _ in range(5):
                assert await router.fetchval(cached, "SELECT 1") == 1
            with pytest.raises(DatabaseUnavailable) as down:
                await router.fetchval(uncached, "SELECT 1")
            assert down.value.database == "control"
            await control.listen_again()

            async def heals() -> bool:
                try:
                    return bool(await router.fetchval(uncached, "SELECT 1"))
                except DatabaseUnavailable:
                    return False

            await until(heals)
            await until(feed.listening.is_set)
            await nothing_leaked(router)


async def test_a_control_database_down_at_the_start_is_no_reason_not_to_open(direct: Product) -> None:
    nowhere = f"postgresql://postgres@127.0.0.1:{free_port()}/nowhere"
    async with direct.open(control={"dsn": nowhere}) as router:
        with pytest.raises(DatabaseUnavailable) as down:
            await router.fetchval(direct.new_id(), "SELECT 1")
        assert down.value.database == "control"
        await nothing_leaked(router)


async def test_a_server_that_restarts_is_served_again(direct: Product) -> None:
    """Every idle connection is dead at once: none of them is given to a caller as its answer."""
    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 4}) as router:
            [tenant] = await product.signed_up(router)
            await asyncio.gather(*(router.fetchval(tenant, "SELECT pg_sleep(0.05)") for _ in range(4)))
            for end in (proxy.cut, proxy.reset):
                end()
                assert await asked(router, tenant) == 1
            await nothing_leaked(router)
