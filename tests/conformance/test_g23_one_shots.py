"""G23 for one-shots, whose COMMIT is sent behind their statement: what the caller is told is true, and nothing is
done twice, wherever the connection breaks, a deadline passes, the caller goes, or an answer can't be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import pytest

from tenantry import CommitUnknown, DatabaseUnavailable, Router, TenantBusy
from tenantry.embedded import EmbeddedServer
from tests.support.pgbouncer import PgBouncer
from tests.support.product import Product, product_on
from tests.support.proxy import Proxy, Verdict
from tests.support.quiet import nothing_leaked
from tests.support.until import until
from tests.support.wire import Message

INSERT: Final = "INSERT INTO students (name) VALUES ($1)"
COMMITTED: Final = b"C\0\0\0\x0bCOMMIT\0"


class World:
    """A tenant, a router with one connection through a proxy, and a look past all of it."""

    def __init__(self, product: Product, router: Router, proxy: Proxy, admin: Any, tenant: Any) -> None:
        self.product, self.router, self.proxy, self.admin, self.tenant = product, router, proxy, admin, tenant

    async def warm(self) -> None:
        """The statement is prepared, and its answer's size known."""
        for _ in range(2):
            await self.router.execute(self.tenant, INSERT, "warm")

    async def rows(self, name: str) -> int:
        return int(await self.admin.fetchval("SELECT count(*) FROM students WHERE name = $1", name))


@asynccontextmanager
async def world(pg18: EmbeddedServer, *, pooled: bool = False) -> AsyncIterator[World]:
    with product_on(pg18) as plain, PgBouncer.start(pg18, "transaction", pool_size=4) as bouncer:
        where = bouncer if pooled else pg18
        async with Proxy(where.host, where.port) as proxy, plain.admin() as admin:
            product = plain.behind(lambda url: proxy.dsn(bouncer.instead(url) if pooled else url))
            async with product.open(pool={"max": 1}) as router:
                [tenant] = await product.signed_up(router)
                made = World(product, router, proxy, admin, tenant)
                await made.warm()
                yield made
                await nothing_leaked(router)


@pytest.mark.parametrize("verdict", [Verdict.RESET, Verdict.CUT], ids=["reset", "ended"])
@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "before PgBouncer"])
async def test_a_connection_that_breaks_before_any_message_doubles_no_one_shot(
    pg18: EmbeddedServer, pooled: bool, verdict: Verdict
) -> None:
    """At each message of the server's, and before the first of the client's."""
    unknown, wrong = 0, []
    async with world(pg18, pooled=pooled) as made:
        for number in range(1, 60):
            seen, fired = 0, False

            def look(message: Message, number: int = number) -> Verdict | None:
                nonlocal seen, fired
                if message.side != "server" or fired:
                    return None
                seen += 1
                fired = seen == number
                return verdict if fired else None

            await made.warm()
            made.proxy.hooks[:] = [look]
            try:
                told = await made.router.execute(made.tenant, INSERT, f"k{number}")
            except CommitUnknown:
                told, unknown = "unknown", unknown + 1
            except (asyncpg.PostgresError, asyncpg.InterfaceError, DatabaseUnavailable, OSError) as error:
                told = repr(error)
            finally:
                made.proxy.hooks.clear()
            if not fired:
                break
            rows = await _settled(made, f"k{number}")
            allowed = {"unknown": (0, 1), "INSERT 0 1": (1,)}.get(told, (0,))
            if rows not in allowed:
                wrong.append(f"before message {number}: told {told}, and {rows} rows are there")
        assert wrong == []
        assert number > 10
        assert unknown > 5 or pooled  # behind a pooler the COMMIT is a flight of its own


async def _is_zero(asked: Awaitable[int]) -> bool:
    return await asked == 0


async def _settled(made: World, name: str) -> int:
    """How many rows are there once no other session is at work."""
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid() AND state <> 'idle'"
    )
    await until(lambda: _is_zero(made.admin.fetchval(busy, made.product.database)))
    return await made.rows(name)


@pytest.mark.parametrize("how", ["deadline", "cancelled"])
async def test_a_one_shot_that_is_given_up_behind_a_slow_commit_is_not_committed(
    pg18: EmbeddedServer, how: str
) -> None:
    async with world(pg18) as made:
        [other] = await made.product.signed_up(made.router)
        await made.admin.execute("SELECT pg_advisory_lock(4711)")
        holds = "DECLARE h CURSOR WITH HOLD FOR SELECT pg_advisory_xact_lock_shared(4711)"
        left = asyncio.Event()

        async def first() -> None:
            async with made.router.tenant(other) as conn:
                await conn.fetch("SELECT 1")
                await conn.execute(holds)
                await left.wait()

        one = asyncio.create_task(first())
        pool = made.router.pools.open_pools()["shared"]
        timeout = 0.5 if how == "deadline" else None
        two = asyncio.create_task(made.router.execute(made.tenant, INSERT, "rider", timeout=timeout))
        await until(lambda: pool.admission.waiting == 1)
        left.set()
        if how == "cancelled":
            await asyncio.sleep(0.3)
            two.cancel()
        [told] = await asyncio.gather(two, return_exceptions=True)
        assert isinstance(told, asyncio.CancelledError if how == "cancelled" else TenantBusy), told
        await made.admin.execute("SELECT pg_advisory_unlock(4711)")
        await one
        await nothing_leaked(made.router)
        assert await made.rows("rider") == 0


async def test_a_one_shot_that_names_a_deadline_is_not_committed_once_it_has_passed(pg18: EmbeddedServer) -> None:
    async with world(pg18) as made:
        stop = made.proxy.stop_when(b"BEGIN", side="server", verdict=Verdict.HOLD)
        with pytest.raises(DatabaseUnavailable):
            await made.router.execute(made.tenant, INSERT, "late", timeout=0.5)
        assert stop.passed.is_set()
        assert await made.rows("late") == 0
        made.proxy.release()


async def test_an_answer_that_can_not_be_read_is_told_and_nothing_is_done_twice(pg18: EmbeddedServer) -> None:
    """The server has done it and committed it; the driver knows no year before 1, or an older form of a row."""
    async with world(pg18) as made:
        before_christ = "INSERT INTO students (name) VALUES ($1) RETURNING date '0044-03-15 BC'"
        composite = "INSERT INTO students (name) VALUES ($1) RETURNING students"
        for _ in range(2):
            await made.router.fetchval(made.tenant, composite, "warm")
        await made.admin.execute("ALTER TABLE students ADD COLUMN extra int")
        for query, name in ((before_christ, "Caesar"), (composite, "row")):
            with pytest.raises((ValueError, asyncpg.OutdatedSchemaCacheError)) as told:
                await made.router.fetchval(made.tenant, query, name)
            assert await made.rows(name) == 1
            assert any("is committed" in note for note in told.value.__notes__)


async def test_run_repeats_nothing_whose_commit_is_unknown(pg18: EmbeddedServer) -> None:
    """Not even where the work has met an outdated statement, which is worth a repetition, and gone on."""
    async with world(pg18) as made:
        async with made.router.tenant(made.tenant) as conn:
            await conn.fetch("SELECT * FROM courses")
        await made.admin.execute("ALTER TABLE courses ADD COLUMN extra int")
        runs = 0

        async def work(conn: Any) -> None:
            nonlocal runs
            runs += 1
            await conn.execute(INSERT, "once")
            with pytest.raises(asyncpg.PostgresError):
                async with conn.transaction():
                    await conn.fetch("SELECT * FROM courses")
            made.proxy.stop_when(COMMITTED, side="server", verdict=Verdict.RESET)

        with pytest.raises(CommitUnknown):
            await made.router.run(made.tenant, work)
        assert runs == 1
        assert await made.rows("once") == 1
