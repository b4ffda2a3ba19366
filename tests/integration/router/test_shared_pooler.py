"""Behind a pooler the server's processes are everybody's: what a router sends leaves room for others, and is safe
with them even where the router dies in the middle of it.

With the answer that a session is idle, a pooler takes the process back. What a client has sent behind the unit
that is answered so reaches a process that is somebody else's, once the client is gone (PgBouncer 1.18).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg
import pytest

from tenantry import Router
from tenantry.embedded import EmbeddedServer
from tests.support.pgbouncer import PgBouncer
from tests.support.product import Product, product_on
from tests.support.proxy import Proxy, Verdict
from tests.support.quiet import nothing_leaked
from tests.support.until import until
from tests.support.wire import Message

INSERT = "INSERT INTO students (id, name) VALUES ($1, 'x')"


async def test_a_router_with_callers_waiting_lets_other_clients_of_pgbouncer_have_a_turn(
    pg18: EmbeddedServer,
) -> None:
    """A message that ends one scope and opens the next never shows PgBouncer an idle connection."""
    with (
        PgBouncer.start(pg18, "transaction", pool_size=1) as bouncer,
        product_on(pg18, via=bouncer.instead) as product,
    ):
        async with product.open(pool={"max": 1}) as greedy, product.open(pool={"max": 1}) as modest:
            [tenant] = await product.signed_up(greedy)
            stop = asyncio.Event()

            async def work() -> int:
                done = 0
                while not stop.is_set():
                    async with greedy.tenant(tenant) as conn:
                        await conn.fetchval("SELECT 1")
                    done += 1
                return done

            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(work()) for _ in range(4)]
                try:
                    async with asyncio.timeout(30):
                        for _ in range(20):
                            assert await modest.fetchval(tenant, "SELECT 2", timeout=20) == 2
                finally:
                    stop.set()
            assert all(worker.result() > 0 for worker in workers)


class Idle:
    """Looks for messages that were sent behind a unit that left the session idle."""

    # Mutable state: _asked (units that are unanswered, by connection), _begun (connections with a unit that has no
    # end yet), units (that were answered), found.

    def __init__(self) -> None:
        self._asked: dict[int, int] = {}
        self._begun: set[int] = set()
        self.units = 0
        self.found: list[str] = []

    def look(self, message: Message) -> Verdict | None:
        number = message.connection
        if message.side == "client":
            if message.type in (b"Q", b"S"):
                self._asked[number] = self._asked.get(number, 0) + 1
                self._begun.discard(number)
            elif message.type in (b"P", b"B", b"D", b"E", b"C", b"H"):
                self._begun.add(number)
        elif message.type == b"Z":
            self.units += 1
            self._asked[number] = self._asked.get(number, 1) - 1
            if message.body == b"I" and (self._asked[number] or number in self._begun):
                self.found.append(f"connection {number}, unit {self.units}: {self._asked[number]} unanswered")
        return None


@contextlib.asynccontextmanager
async def watched(pg18: EmbeddedServer, *, hardened: bool = False, kept: bool = False, size: int = 2) -> Any:
    """A product behind PgBouncer, a router with a pool of `size`, and what `Idle` has found between the two."""
    with (
        PgBouncer.start(pg18, "transaction", pool_size=4) as bouncer,
        product_on(pg18, hardened=hardened) as plain,
    ):
        async with Proxy(bouncer.host, bouncer.port) as proxy:
            product = plain.behind(lambda url: proxy.dsn(bouncer.instead(url)))
            idle = Idle()
            shared = {"prepared_statements": True} if kept else {}
            async with product.open(pool={"max": size}, shared=shared) as router:
                proxy.hooks.append(idle.look)
                yield product, router, idle
                await nothing_leaked(router)


async def _one_scope(router: Router, tenant: Any, number: int) -> None:
    way = number % 7
    if way == 0:
        await router.fetchval(tenant, "SELECT count(*) FROM students")
    elif way == 1:
        await router.execute(tenant, "SELECT 1/0")
    else:
        async with router.tenant(tenant, timeout=10) as conn:
            await conn.execute(INSERT, number)
            if way == 2:
                async with conn.transaction():
                    await conn.fetch("SELECT id FROM students")
            elif way == 3:
                await conn.execute("SELECT 1; SELECT 2")
            elif way == 4:
                raise ZeroDivisionError
            elif way == 5:
                await conn.execute("INSERT INTO enrolments (student, course) VALUES (404, 1)")
            elif way == 6:
                await conn.fetchval("SELECT count(*) FROM pg_catalog.generate_series(1, 300000)", timeout=0.01)


@pytest.mark.parametrize("kept", [False, True], ids=["statements forgotten", "statements kept"])
@pytest.mark.parametrize("hardened", [False, True], ids=["plain", "hardened"])
async def test_nothing_is_sent_behind_a_unit_that_leaves_the_session_idle(
    pg18: EmbeddedServer, hardened: bool, kept: bool
) -> None:
    async with watched(pg18, hardened=hardened, kept=kept) as (product, router, idle):
        tenants = await product.signed_up(router, 5)
        work = [_one_scope(router, tenants[number % 5], number) for number in range(140)]
        tasks = [asyncio.create_task(one) for one in work]
        await asyncio.sleep(0)
        for task in tasks[11::13]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for one in ended if one is None]
        await nothing_leaked(router)
        assert idle.units > 140
        assert idle.found == []


async def test_nor_when_a_scope_is_opened_once_more_because_the_schema_has_changed(pg18: EmbeddedServer) -> None:
    async with watched(pg18, kept=True, size=1) as (product, router, idle):
        [tenant] = await product.signed_up(router)
        async with product.admin() as admin:
            await admin.execute("CREATE TYPE mood AS ENUM ('a'); GRANT USAGE ON TYPE mood TO PUBLIC")
            assert await router.fetchval(tenant, "SELECT 'a'::mood") == "a"
            await admin.execute("DROP TYPE mood; CREATE TYPE mood AS ENUM ('a', 'b')")
        assert await router.fetchval(tenant, "SELECT 'a'::mood") == "a"
        assert idle.found == []


_OPENING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%enter%' AND wait_event_type = 'Lock'"


async def _goes_through(bouncer: PgBouncer, product: Product) -> tuple[int, bool]:
    """What another client of the pooler finds: how many students it sees, and whether it is in a transaction."""
    url = bouncer.dsn(product.database, user="product_app")
    async with asyncio.timeout(20):
        stranger = await asyncpg.connect(url, statement_cache_size=0)
        try:
            seen = await stranger.fetchval("SELECT count(*) FROM students")
            return seen, stranger.is_in_transaction()
        finally:
            await stranger.close()


@pytest.mark.parametrize("hardened", [False, True], ids=["plain", "hardened"])
async def test_a_router_that_dies_while_a_scope_opens_leaves_the_scope_to_nobody(
    pg18: EmbeddedServer, hardened: bool
) -> None:
    """Its COMMIT is answered, the next opening is not: another client of the pooler must not find that scope."""
    with (
        PgBouncer.start(pg18, "transaction", pool_size=1) as bouncer,
        product_on(pg18, hardened=hardened) as plain,
    ):
        async with Proxy(bouncer.host, bouncer.port) as proxy, plain.admin() as admin:
            product = plain.behind(lambda url: proxy.dsn(bouncer.instead(url)))
            async with product.open(pool={"max": 1}) as router:
                first, second = await product.signed_up(router, 2)
                await router.execute(second, INSERT, 1)

                async def waits() -> None:
                    async with router.tenant(
                        second, isolation="repeatable_read"
                    ) as conn:  # reads its placement FOR SHARE
                        await conn.fetch("SELECT 1")

                pool = router.pools.open_pools()["shared"]
                async with admin.transaction(), plain.admin() as watch:
                    await admin.execute("SELECT FROM tenantry.placement WHERE tenant = $1 FOR UPDATE", str(second))
                    async with router.tenant(first) as conn:
                        await conn.fetch("SELECT 1")
                        waiting = asyncio.create_task(waits())
                        await until(lambda: pool.admission.waiting == 1)
                    await until(lambda: watch.fetchval(_OPENING))
                    waiting.cancel()
                    proxy.reset()
                    await asyncio.sleep(0.2)
                stranger = await _goes_through(bouncer, plain)
                await asyncio.gather(waiting, return_exceptions=True)
        assert stranger == (0, False)
