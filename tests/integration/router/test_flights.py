"""Flights (network round trips), counted on the wire by a proxy, with every safety on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tenantry import Router
from tenantry.embedded import EmbeddedServer
from tenantry.ids import TenantId
from tests.support.pgbouncer import PgBouncer
from tests.support.product import Product, product_on
from tests.support.proxy import Proxy
from tests.support.until import until

QUERY = "SELECT name FROM students WHERE id = $1"


@asynccontextmanager
async def counted(direct: Product, tenants: int = 1) -> AsyncIterator[tuple[Proxy, Router, list[TenantId]]]:
    """A proxy that counts, and a router behind it whose one connection is open and has prepared the query."""
    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 1}) as router:
            signed_up = await product.signed_up(router, tenants)
            await router.fetch(signed_up[0], QUERY, 1)
            yield proxy, router, signed_up


async def test_a_scope_with_one_cached_query_takes_exactly_two_flights(direct: Product) -> None:
    """The opening travels with the query."""
    async with counted(direct) as (proxy, router, [tenant]):
        for count in (1, 2, 3):
            before = proxy.flights
            async with router.tenant(tenant) as conn:
                await conn.fetch(QUERY, count)
            assert proxy.flights - before == 2


@pytest.mark.parametrize("method", ["fetch", "fetchrow", "fetchval", "execute"])
async def test_a_one_shot_of_a_cached_query_takes_exactly_one_flight(direct: Product, method: str) -> None:
    async with counted(direct) as (proxy, router, [tenant]):
        for _ in range(2):  # opens the connection, prepares the statement, shows how large its result is
            await getattr(router, method)(tenant, QUERY, 1)
        for count in (1, 2, 3):
            before = proxy.flights
            await getattr(router, method)(tenant, QUERY, count)
            assert proxy.flights - before == 1


async def test_a_scope_without_a_statement_takes_none(direct: Product) -> None:
    async with counted(direct) as (proxy, router, [tenant]):
        before = proxy.flights
        async with router.tenant(tenant):
            pass
        assert proxy.flights == before


async def test_a_rolled_back_scope_takes_two_flights_too(direct: Product) -> None:
    async with counted(direct) as (proxy, router, [tenant]):
        before = proxy.flights
        try:
            async with router.tenant(tenant) as conn:
                await conn.fetch(QUERY, 1)
                raise KeyError
        except KeyError:
            pass
        assert proxy.flights - before == 2


@pytest.mark.parametrize(
    ("first", "flights"),
    [
        ("SELECT 1", 3),  # the simple protocol: may hold several statements
        ("SAVEPOINT", 5),  # opening, savepoint, query, release, end
    ],
)
async def test_what_can_not_travel_with_the_opening_opens_the_scope_first(
    direct: Product, first: str, flights: int
) -> None:
    async with counted(direct) as (proxy, router, [tenant]):
        before = proxy.flights
        async with router.tenant(tenant) as conn:
            if first == "SAVEPOINT":
                async with conn.transaction():
                    await conn.fetch(QUERY, 1)
            else:
                await conn.execute(first)
        assert proxy.flights - before == flights


@pytest.mark.parametrize("callers", [20, 60])
async def test_while_callers_wait_a_scope_takes_exactly_one_flight(direct: Product, callers: int) -> None:
    """And one more for the last one's end."""
    async with counted(direct, 4) as (proxy, router, tenants):
        waiting = await _line_up(router, tenants, callers)
        before = proxy.flights
        async with asyncio.timeout(30):
            waiting[0].set()
            await asyncio.gather(*waiting[1])
        assert proxy.flights - before == callers + 1


@pytest.mark.parametrize("callers", [0, 20])
async def test_behind_a_pooler_a_scope_takes_two_flights(pg18: EmbeddedServer, callers: int) -> None:
    """Whoever waits: nothing is sent behind a unit that leaves the session idle."""
    with (
        PgBouncer.start(pg18, "transaction", pool_size=1) as bouncer,
        product_on(pg18) as plain,
    ):
        async with Proxy(bouncer.host, bouncer.port) as proxy:
            product = plain.behind(lambda url: proxy.dsn(bouncer.instead(url)))
            kept = {"prepared_statements": True}
            async with product.open(pool={"max": 1}, shared=kept) as router:
                tenants = await product.signed_up(router, 4)
                await router.fetch(tenants[0], QUERY, 1)
                waiting = await _line_up(router, tenants, callers)
                before = proxy.flights
                async with asyncio.timeout(30):
                    waiting[0].set()
                    await asyncio.gather(*waiting[1])
                assert proxy.flights - before == 1 + 2 * callers


async def _line_up(
    router: Router, tenants: list[TenantId], callers: int
) -> tuple[asyncio.Event, list[asyncio.Task[object]]]:
    """`callers` tasks that wait behind one which holds the only connection until the event is set."""
    go = asyncio.Event()

    async def hold() -> object:
        async with router.tenant(tenants[0]) as conn:
            await conn.fetch(QUERY, 1)
            await go.wait()
        return None

    async def scope(number: int) -> object:
        async with router.tenant(tenants[number % len(tenants)]) as conn:
            return await conn.fetch(QUERY, 1)

    holder: asyncio.Task[object] = asyncio.create_task(hold())
    pool = router.pools.open_pools()["shared"]
    await until(lambda: pool.state()["busy"] == 1)
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(scope(number)) for number in range(callers)]
    await until(lambda: pool.admission.waiting == callers)
    return go, [holder, *tasks]
