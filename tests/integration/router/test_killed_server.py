"""A server that is killed outright: in a scope, at its end, and while connecting. And connections that idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from tenantry import CommitUnknown, Router
from tenantry.embedded import EmbeddedServer
from tenantry.errors import DatabaseUnavailable, ScopeLost
from tenantry.ids import TenantId
from tests.support.pgbouncer import PgBouncer
from tests.support.product import product_on
from tests.support.quiet import nothing_leaked
from tests.support.until import until

LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, CommitUnknown, ScopeLost)


async def test_a_server_killed_in_a_scope_is_told_and_served_again_when_it_is_back() -> None:
    with EmbeddedServer.start(18) as server, product_on(server) as product:
        async with product.open() as router:
            [tenant] = await product.signed_up(router)
            with pytest.raises(LOST):
                await write(router, tenant, server.crash, again=True)
            with pytest.raises(DatabaseUnavailable):
                await router.fetchval(tenant, "SELECT 1", timeout=5)
            server.restart()
            await until_served(router, tenant)
            assert await router.fetchval(tenant, "SELECT count(*) FROM students") == 0
            pool = router.pools.ready("shared")
            assert pool is not None
            await until(lambda: pool.state()["busy"] == 0)
            assert pool.admission.idle


async def test_a_server_killed_behind_pgbouncer_is_told_and_served_again_when_it_is_back() -> None:
    with (
        EmbeddedServer.start(18) as server,
        PgBouncer.start(server, "transaction", pool_size=5) as bouncer,
        product_on(server, via=bouncer.instead) as product,
    ):
        async with product.open() as router:
            [tenant] = await product.signed_up(router)
            with pytest.raises(LOST):
                await write(router, tenant, server.crash, again=True)
            server.restart()
            await until_served(router, tenant)
            assert await router.fetchval(tenant, "SELECT count(*) FROM students") == 0
            await nothing_leaked(router)


async def test_a_server_killed_before_the_commit_is_no_silent_success() -> None:
    with EmbeddedServer.start(18) as server, product_on(server) as product:
        async with product.open() as router:
            [tenant] = await product.signed_up(router)
            with pytest.raises(LOST):
                await write(router, tenant, server.crash, again=False)
            server.restart()
            await until_served(router, tenant)
            assert await router.fetchval(tenant, "SELECT count(*) FROM students") == 0


async def write(router: Router, tenant: TenantId, then: Callable[[], object], *, again: bool) -> None:
    """A scope in which something happens after the first write, and before the second, if there is one."""
    async with router.tenant(tenant) as conn:
        await conn.execute("INSERT INTO students (name) VALUES ('lost')")
        then()
        if again:
            await conn.execute("INSERT INTO students (name) VALUES ('never')")


async def until_served(router: Router, tenant: TenantId) -> None:
    """Ask until the back-off has passed and the server answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                await router.fetchval(tenant, "SELECT 1", timeout=5)
                return
            except DatabaseUnavailable as error:
                await asyncio.sleep(error.retry_after or 0.05)  # what the error itself says to wait


async def test_connections_that_idle_are_closed_and_opened_again_when_needed(pg18: EmbeddedServer) -> None:
    with product_on(pg18) as product:
        async with product.open(pool={"idle": "200ms"}) as router:
            [tenant] = await product.signed_up(router)
            await router.execute(tenant, "INSERT INTO students (name) VALUES ('x')")
            pool = router.pools.ready("shared")
            assert pool is not None
            await until(lambda: pool.open == 0)
            assert router.pools.budget.used == 0
            assert await product.backends() == 0
            assert await router.fetchval(tenant, "SELECT count(*) FROM students") == 1
