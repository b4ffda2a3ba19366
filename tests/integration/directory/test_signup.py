"""Where tenants live that are signed up without a database (M9): decided in the control database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tenantry import NoRoom, Router, UnknownTenant
from tenantry.directory import Store
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tenantry.rooms import Room, Rooms
from tests.support.installing import make_data
from tests.support.product import Product, fresh_database, product_on


@pytest.fixture
def product(pg18: EmbeddedServer) -> Iterator[Product]:
    """One of its own: what lives in its directory counts."""
    with product_on(pg18) as product:
        yield product


@asynccontextmanager
async def directory(product: Product, names: str, routers: int = 1) -> AsyncIterator[list[Store]]:
    """Databases that only the directory has, and stores of so many processes."""
    async with product.admin() as control:
        await control.executemany(
            "INSERT INTO tenantry.database (name, kind, dsn) VALUES ($1, 'shared', 'config')",
            [(name,) for name in names],
        )
    stores = [Store(product.server.dsn(product.database), timeout=30) for _ in range(routers)]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


async def sign_up(stores: list[Store], product: Product, count: int, rooms: Rooms) -> Counter[str]:
    """So many new tenants, by all stores at once; how many each database got."""

    async def one(number: int) -> str:
        return (await stores[number % len(stores)].add_tenant(str(product.new_id()), rooms)).database

    return Counter(await asyncio.gather(*(one(number) for number in range(count))))


async def test_many_routers_fill_databases_by_their_capacities(product: Product) -> None:
    capacities = {"a": 40, "b": 80, "c": 120, "d": 160, "e": 200}
    async with directory(product, "abcde", routers=8) as stores:
        rooms = Rooms([Room(name, capacity) for name, capacity in capacities.items()], spread=True)
        got = await sign_up(stores, product, 300, rooms)
        assert {name: round(got[name] / most, 2) for name, most in capacities.items()} == dict.fromkeys(
            "abcde", 0.5
        )
        assert await sign_up(stores, product, 300, rooms) + got == capacities


async def test_no_database_gets_more_than_it_may_have_and_whoever_finds_no_room_is_told(product: Product) -> None:
    async with directory(product, "ab", routers=8) as stores:
        rooms = Rooms([Room("a", 10), Room("b", 7)], spread=True)
        ids = [str(product.new_id()) for _ in range(40)]
        ended = await asyncio.gather(
            *(stores[number % 8].add_tenant(one, rooms) for number, one in enumerate(ids)), return_exceptions=True
        )
        placed = Counter(one.database for one in ended if not isinstance(one, BaseException))
        assert placed == {"a": 10, "b": 7}
        refused = [one for one in ended if isinstance(one, BaseException)]
        assert len(refused) == 23
        assert all(isinstance(one, NoRoom) for one in refused)
        assert "a (10), b (7)" in str(refused[0])
        assert set(await stores[0].tenants(ids)) == {
            one for one, row in zip(ids, ended, strict=True) if not isinstance(row, BaseException)
        }


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_the_isolation_that_the_control_database_prefers_changes_nothing(
    product: Product, level: str
) -> None:
    async with product.admin() as control:
        await control.execute(
            f"ALTER DATABASE \"{product.database}\" SET default_transaction_isolation = '{level}'"
        )
    async with directory(product, "a", routers=4) as stores:
        rooms = Rooms([Room("a", 5)], spread=True)
        ids = [str(product.new_id()) for _ in range(20)]
        ended = await asyncio.gather(
            *(stores[number % 4].add_tenant(one, rooms) for number, one in enumerate(ids)), return_exceptions=True
        )
        assert Counter(type(one).__name__ for one in ended) == {"TenantRow": 5, "NoRoom": 15}


async def test_a_tenant_that_is_there_stays_where_it_is_however_full_that_is(product: Product) -> None:
    async with directory(product, "ab") as [store]:
        tenant = str(product.new_id())
        assert (await store.add_tenant(tenant, Rooms([Room("a", 1)], spread=True))).database == "a"
        for rooms in (Rooms([Room("a", 1)], spread=True), Rooms([Room("b", 5)], spread=False)):
            assert (await store.add_tenant(tenant, rooms)).database == "a"


async def test_first_fills_the_first_that_has_room_and_a_removed_tenant_makes_room(product: Product) -> None:
    async with directory(product, "ab") as [store]:
        rooms = Rooms([Room("a", 2), Room("b", None)], spread=False)
        ids = [str(product.new_id()) for _ in range(4)]
        assert [(await store.add_tenant(one, rooms)).database for one in ids[:3]] == ["a", "a", "b"]
        async with product.admin() as control:
            await control.execute("UPDATE tenantry.tenant SET state = 'suspended' WHERE id = $1", ids[0])
            assert (await store.add_tenant(ids[3], rooms)).database == "b", "its rows are there"
            await control.execute("UPDATE tenantry.tenant SET state = 'removed' WHERE id = $1", ids[0])
        assert (await store.add_tenant(str(product.new_id()), rooms)).database == "a"


async def test_a_database_without_a_capacity_takes_its_even_part_and_one_that_is_unknown_none(
    product: Product,
) -> None:
    async with directory(product, "abc") as [store]:
        rooms = Rooms([Room("a", None), Room("b", None), Room("c", None), Room("typo", None)], spread=True)
        assert await sign_up([store], product, 30, rooms) == {"a": 10, "b": 10, "c": 10}


@asynccontextmanager
async def two(product: Product, pg18: EmbeddedServer, **tenancy: Any) -> AsyncIterator[tuple[Router, Router]]:
    """Two routers over the shared database (room for one) and another that no sign-up chooses."""
    async with AsyncExitStack() as stack:
        database = stack.enter_context(fresh_database(pg18, product.ids))
        async with product.admin(database) as admin:
            await make_data(admin, None, product.ids, name="other", kind=Kind.SHARED)
        async with product.admin() as control:
            await control.execute(
                "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('other', 'shared', 'config')"
            )
        options: dict[str, Any] = {
            "tenancy": tenancy,
            "shared": {"capacity": 1},
            "databases": {"other": {"kind": "shared", "dsn": product.dsn(database=database), "accepts": False}},
        }
        yield (
            await stack.enter_async_context(product.open(**options)),
            await stack.enter_async_context(product.open(**options)),
        )


async def test_a_router_signs_up_where_there_is_room_and_serves_at_once(
    product: Product, pg18: EmbeddedServer
) -> None:
    async with two(product, pg18, placement="least-loaded") as (router, other):
        tenant, late = product.new_id(), product.new_id()
        assert (await router.add_tenant(tenant)).database == "shared"
        assert await other.fetchval(tenant, "SELECT count(*) FROM students") == 0
        with pytest.raises(NoRoom, match=r"shared \(1\)"):
            await other.add_tenant(late)
        with pytest.raises(UnknownTenant):
            await other.fetchval(late, "SELECT 1")
        assert (await other.add_tenant(late, database="other")).database == "other", "what is said, counts"
        assert await router.fetchval(late, "SELECT count(*) FROM students") == 0


async def test_a_name_is_a_policy_too(product: Product, pg18: EmbeddedServer) -> None:
    async with two(product, pg18, placement="other") as (router, _):
        assert [(await router.add_tenant(product.new_id())).database for _ in range(2)] == ["other", "other"]
