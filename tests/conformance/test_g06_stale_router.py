"""G6: a stale router can never write to a place that a tenant has left, at any isolation level.

The router's notifications are cut and its cache is old; a move fences the tenant, changes its placement in
the source database, and lifts the fence in one transaction. Every write that a caller was told of must be in
the tenant's home of that moment, and none may come into the old home after the change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import pytest

from tenantry import Router
from tenantry.ids import TenantId
from tests.support.product import Product
from tests.support.proxy import Proxy
from tests.support.quiet import nothing_leaked
from tests.support.until import until
from tests.support.variants import Products

LEVELS = ["read_committed", "repeatable_read", "serializable"]
INSERT = "INSERT INTO students (id, name) VALUES ($1, $2)"


class Stale(NamedTuple):
    product: Product
    router: Router
    tenant: TenantId
    name: str
    target: str


@asynccontextmanager
async def stale_router(product: Product) -> AsyncIterator[Stale]:
    """A router that knows where its tenant lives and will not be told of changes."""
    name = f"home_{abs(hash(product.new_id()))}"
    async with Proxy(product.server.host, product.server.port) as control, product.dedicated(name) as section:
        dsn = control.dsn(product.server.dsn(product.database))
        target = section["dsn"].rpartition("/")[2]
        options = {"pool": {"max": 3}, "databases": {name: section}, "control": {"dsn": dsn}}
        async with product.open(**options) as router:
            [tenant] = await product.signed_up(router)
            feed = router._feed
            assert feed is not None
            await until(feed.listening.is_set)
            await router.placement(tenant)
            await router.fetch(tenant, "SELECT 1")
            control.hold()  # half-open: nothing arrives any more, and nobody is told
            control.accepting = False
            try:
                yield Stale(product, router, tenant, name, target)
                await nothing_leaked(router)
            finally:
                control.accepting = True
                control.cut()


async def move(stale: Stale, mover: Any) -> None:
    """The flip, inside the fence's transaction: first the target lets the tenant in, then the source it out."""
    async with stale.product.admin(stale.target) as target:
        await target.execute("INSERT INTO tenantry.placement VALUES ($1, $2, 2)", str(stale.tenant), stale.name)
    await mover.execute(
        "UPDATE tenantry.placement SET database = $2, epoch = 2 WHERE tenant = $1", str(stale.tenant), stale.name
    )


async def rows(stale: Stale, database: str | None = None) -> set[int]:
    async with stale.product.admin(database) as admin:
        found = await admin.fetch("SELECT id FROM students WHERE tenant_id::text = $1", str(stale.tenant))
    return {row["id"] for row in found}


@pytest.mark.parametrize("level", LEVELS)
async def test_a_write_after_the_placement_has_changed_lands_in_the_new_home(product: Product, level: str) -> None:
    async with stale_router(product) as stale:
        async with product.fence(stale.tenant) as mover:
            await move(stale, mover)
        assert stale.router.directory.cached(stale.tenant) is not None, "the cache still has the old home"
        async with stale.router.tenant(stale.tenant, isolation=level) as conn:
            await conn.execute(INSERT, 1, level)
        assert await rows(stale) == set()
        assert await rows(stale, stale.target) == {1}
        assert (await stale.router.placement(stale.tenant)).database == stale.name


@pytest.mark.parametrize("level", LEVELS)
async def test_the_fence_waits_for_a_scope_in_progress_whose_write_is_in_the_old_home_then(
    product: Product, level: str
) -> None:
    """A scope that was bound before keeps its lock to its end; newcomers park; the flip comes after it."""
    async with stale_router(product) as stale:
        flipped = asyncio.Event()

        async def flip() -> None:
            async with product.fence(stale.tenant) as mover:
                assert await rows(stale) == {1}, "the scope's commit is seen by the mover"
                await move(stale, mover)
            flipped.set()

        async def newcomer() -> None:
            async with stale.router.tenant(stale.tenant, isolation=level) as conn:
                await conn.execute(INSERT, 2, level)

        async with stale.router.tenant(stale.tenant, isolation=level) as conn:
            await conn.fetchval("SELECT 1")  # bound from here on
            moving = asyncio.create_task(flip())
            async with product.admin() as admin:
                asked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND classid = tenantry.lock_space()::oid"

                async def fence_waits() -> bool:
                    return bool(await admin.fetchval(asked))

                await until(fence_waits)
            late = asyncio.create_task(newcomer())
            await until(lambda: len(stale.router.fence_wait) == 1)
            assert not flipped.is_set()
            await conn.execute(INSERT, 1, level)
        await moving
        await late
        assert await rows(stale) == {1}
        assert await rows(stale, stale.target) == {2}


@pytest.mark.parametrize("level", LEVELS)
async def test_under_load_no_write_lands_in_the_old_home_after_the_flip(product: Product, level: str) -> None:
    async with stale_router(product) as stale:
        done: set[int] = set()
        numbers = iter(range(1, 1_000_000))
        stop = asyncio.Event()

        async def writer() -> None:
            while not stop.is_set():
                number = next(numbers)

                async def work(conn: Any, number: int = number) -> None:
                    await conn.execute(INSERT, number, level)

                await stale.router.run(stale.tenant, work, isolation=level, attempts=50)
                done.add(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(writer())
            await until(lambda: len(done) >= 30)
            async with product.fence(stale.tenant) as mover:
                before = await rows(stale)
                await move(stale, mover)
            moved_at = len(done)
            await until(lambda: len(done) >= moved_at + 30)
            stop.set()
        old, new = await rows(stale), await rows(stale, stale.target)
        assert old == before, "a write landed in the old home after the flip"
        assert done == old | new, "every write that was acknowledged is in one home, and no other"
        assert not old & new


@pytest.mark.parametrize("level", LEVELS)
async def test_of_the_naive_fence_a_snapshot_older_than_the_flip_is_refused_by_the_database(
    products: Products, level: str
) -> None:
    """A bind whose snapshot was taken before the flip and whose check comes after it: the combination that
    the naive fence loses. Driven by hand on one connection, for the router can not be made so slow."""
    product = products("pg16-direct-uuid")
    async with product.open() as router:
        [tenant] = await product.signed_up(router)
    writer: Any = await asyncpg.connect(product.dsn())
    try:
        async with product.fence(tenant) as mover:
            await writer.execute(f"BEGIN ISOLATION LEVEL {level.replace('_', ' ')}; SELECT count(*) FROM students")
            await mover.execute(
                "UPDATE tenantry.placement SET database = 'away', epoch = 2 WHERE tenant = $1", str(tenant)
            )
        with pytest.raises(asyncpg.PostgresError) as refused:
            await writer.execute(f"SELECT tenantry.bind('{tenant}')")
        assert refused.value.sqlstate == ("TN001" if level == "read_committed" else "40001")
    finally:
        await writer.close()


async def test_the_policy_itself_keeps_the_fence_for_those_who_do_not_bind(direct: Product) -> None:
    async with direct.open() as router:
        [tenant] = await direct.signed_up(router)
        await router.execute(tenant, INSERT, 1, "there")
    script: Any = await asyncpg.connect(direct.dsn())
    try:
        await script.execute("SELECT set_config('app.current_tenant', $1, false)", str(tenant))
        async with direct.fence(tenant):
            for statement in ("UPDATE students SET name = 'x'", "DELETE FROM students", "SELECT * FROM students"):
                with pytest.raises(asyncpg.PostgresError) as refused:
                    await script.execute(statement)
                assert refused.value.sqlstate == "TN002"
            with pytest.raises(asyncpg.PostgresError) as refused:
                await script.execute("INSERT INTO students (name) VALUES ('x')")
            assert refused.value.sqlstate == "TN002"
        assert await script.fetchval("SELECT count(*) FROM students") == 1
    finally:
        await script.close()
