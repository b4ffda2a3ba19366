"""E22: the feed believes the directory, not what is notified. Any role that may connect may NOTIFY."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tenantry import Router
from tenantry.directory.store import CHANNEL
from tenantry.events import DirectoryChanged, DirectoryLookup
from tests.support.product import Product
from tests.support.proxy import Proxy
from tests.support.until import until


class Heard:
    """What a router's directory did."""

    def __init__(self) -> None:
        self.asked = 0
        self.told: list[object] = []

    def __call__(self, event: object) -> None:
        if isinstance(event, DirectoryLookup):
            self.asked += 1
        elif isinstance(event, DirectoryChanged):
            self.told.append(event.tenant)


@asynccontextmanager
async def listening(product: Product, **changes: Any) -> AsyncIterator[tuple[Router, Heard]]:
    """A router that hears notices and asks for nothing by the clock."""
    heard = Heard()
    async with product.open(sinks=(heard,), control={"poll": 3600, **changes}) as router:
        feed = router._feed
        assert feed is not None
        await until(feed.listening.is_set)
        yield router, heard


async def test_a_router_asks_nothing_again_because_of_its_own_sign_ups(direct: Product) -> None:
    async with listening(direct) as (router, heard):
        tenants = await direct.signed_up(router, 3)
        await until(lambda: len(heard.told) == 3)
        heard.asked = 0
        for tenant in tenants:
            await router.fetchval(tenant, "SELECT 1")
        assert heard.asked == 0


async def test_what_was_cached_before_the_feed_listened_is_asked_again_only_if_it_changed(direct: Product) -> None:
    async with Proxy(direct.server.host, direct.server.port) as listens, direct.admin() as admin:
        await listens.refuse()
        heard = Heard()
        control = {"poll": 3600, "direct_dsn": listens.dsn(direct.server.dsn(direct.database))}
        async with direct.open(sinks=(heard,), control=control) as router:
            changed, same = await direct.signed_up(router, 2)
            await admin.execute("UPDATE tenantry.tenant SET plan = 'new' WHERE id = $1", str(changed))
            await listens.listen_again()
            feed = router._feed
            assert feed is not None
            await until(feed.listening.is_set)
            heard.asked = 0
            assert (await router.directory.lookup(same)).profile.plan is None
            assert heard.asked == 0
            assert (await router.directory.lookup(changed)).profile.plan == "new"
            assert heard.asked == 1


@pytest.mark.parametrize("payload", ['{"tenants": "*"}', '{"tenants": ["%s"], "changed": "1"}'])
async def test_a_false_notice_costs_a_look_and_empties_no_cache(direct: Product, payload: str) -> None:
    async with listening(direct) as (router, heard), direct.admin() as stranger:
        [tenant] = await direct.signed_up(router)
        await until(lambda: bool(heard.told))
        entry = router.directory.cached(tenant)
        assert entry is not None
        heard.asked = 0
        await stranger.execute("SELECT pg_notify($1, $2)", CHANNEL, payload.replace("%s", str(tenant)))
        await until(lambda: router.directory.cached(tenant) is None)
        assert len(router.directory) == 1
        assert await router.fetchval(tenant, "SELECT 1") == 1
        again = router.directory.cached(tenant)
        assert again is not None
        assert (heard.asked, again.profile) == (1, entry.profile)


async def test_an_entry_in_doubt_goes_on_serving_while_the_control_database_is_dead(direct: Product) -> None:
    async with Proxy(direct.server.host, direct.server.port) as control:
        dsn = control.dsn(direct.server.dsn(direct.database))
        async with listening(direct, dsn=dsn) as (router, _):
            tenants = await direct.signed_up(router, 3)
            await control.refuse()
            control.cut()
            router.directory.suspect_all()
            for tenant in tenants:
                assert await router.fetchval(tenant, "SELECT 1") == 1


async def test_an_entry_in_doubt_goes_on_serving_while_the_control_database_is_silent(direct: Product) -> None:
    async with Proxy(direct.server.host, direct.server.port) as control:
        dsn = control.dsn(direct.server.dsn(direct.database))
        async with listening(direct, dsn=dsn) as (router, _):
            [tenant] = await direct.signed_up(router)
            control.hold()
            router.directory.suspect_all()
            assert await router.fetchval(tenant, "SELECT 1", timeout=4.0) == 1
            control.release()


async def test_a_doubt_that_could_not_be_settled_is_settled_when_the_control_database_is_back(
    direct: Product,
) -> None:
    async with Proxy(direct.server.host, direct.server.port) as control, direct.admin() as admin:
        dsn = control.dsn(direct.server.dsn(direct.database))
        async with listening(direct, dsn=dsn) as (router, _):
            [tenant] = await direct.signed_up(router)
            await control.refuse()
            control.cut()
            await admin.execute("UPDATE tenantry.tenant SET plan = 'new' WHERE id = $1", str(tenant))
            assert (await router.directory.lookup(tenant)).profile.plan is None
            await control.listen_again()

            async def followed() -> bool:
                return (await router.directory.lookup(tenant)).profile.plan == "new"

            await until(followed)


async def test_odd_payloads_raise_nothing_and_the_feed_goes_on(direct: Product) -> None:
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    async with listening(direct) as (router, heard), direct.admin() as stranger:
        [tenant] = await direct.signed_up(router)
        await until(lambda: bool(heard.told))
        for payload in ("", "7", "null", "[" * 7000, '{"tenants": 7}', '{"tenants": [[]]}', '{"databases": {}}'):
            await stranger.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
        heard.told.clear()
        await stranger.execute("UPDATE tenantry.tenant SET plan = 'new' WHERE id = $1", str(tenant))
        await until(lambda: bool(heard.told))
        assert heard.told == [tenant]
    assert not raised


async def test_a_flood_of_false_notices_puts_everything_in_doubt_only_now_and_then(direct: Product) -> None:
    async with listening(direct) as (router, heard), direct.admin() as stranger:
        [tenant] = await direct.signed_up(router)
        await until(lambda: bool(heard.told))
        heard.told.clear()
        flood = "SELECT pg_notify($1, $2 || repeat(' ', n)) FROM generate_series(1, 5000) AS n"
        await stranger.execute(flood, CHANNEL, '{"tenants": "*"}')
        await stranger.execute("UPDATE tenantry.tenant SET plan = 'new' WHERE id = $1", str(tenant))

        async def followed() -> bool:
            return (await router.directory.lookup(tenant)).profile.plan == "new"

        await until(followed)
        assert 0 < heard.told.count(None) < 100
