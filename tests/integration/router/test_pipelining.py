"""A scope is opened together with its first statement: what must hold although nobody waits in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest

from tenantry import DatabaseUnavailable, Router, ScopeLost, TenantBusy, TenantSuspended
from tenantry.events import ConnectionOpened, Event, ScopeEnded
from tenantry.ids import TenantId
from tenantry.router import binding, openings, self_test
from tenantry.router.messages import SYNC
from tests.support.product import APP, Product
from tests.support.proxy import Proxy, Verdict
from tests.support.quiet import nothing_leaked
from tests.support.until import until

INSERT = "INSERT INTO students (id, name) VALUES ($1, 'x')"
#: Seconds that the COMMIT of a scope takes that has written a course.
SLOW = 1.0
_SLOW = (
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
    f"'BEGIN PERFORM pg_sleep({SLOW}); RETURN NULL; END';"
    "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON courses DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION slow()"
)


async def students(router: Router, tenant: TenantId) -> list[int]:
    return [row["id"] for row in await router.fetch(tenant, "SELECT id FROM students ORDER BY id")]


async def in_line(router: Router, length: int = 1) -> None:
    pool = router.pools.open_pools()["shared"]
    await until(lambda: pool.admission.waiting == length)


async def committing(admin: Any) -> None:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"

    async def sleeping() -> bool:
        return bool(await admin.fetchval(asked))

    await until(sleeping)


@asynccontextmanager
async def behind_a_slow_commit(product: Product, router: Router, a: TenantId, next_one: Any) -> AsyncIterator[Any]:
    """A task of `next_one()`, which is sent behind `a`'s COMMIT; that takes its time, and must succeed."""

    async def first() -> None:
        async with router.tenant(a) as conn:
            await conn.execute("INSERT INTO courses (id) VALUES ($1)", 1)
            tasks.append(asyncio.create_task(next_one()))
            await in_line(router)

    tasks: list[asyncio.Task[Any]] = []
    async with product.admin() as admin:
        await admin.execute(_SLOW)
        committed = asyncio.create_task(first())
        await committing(admin)
        yield tasks[0]
        await committed
        counted = await admin.fetchval("SELECT count(*) FROM courses WHERE tenant_id::text = $1", str(a))
        assert counted == 1, "the COMMIT of the scope before was nobody else's business"


@asynccontextmanager
async def a_write_that_fails(product: Product, timeout: float | None = None) -> AsyncIterator[asyncio.Task[None]]:
    """A task that writes another row of a tenant's behind a slow COMMIT; the row must not be there in the end.

    `timeout`: seconds, of the statement.
    """
    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        await router.execute(b, INSERT, 1)

        async def second() -> None:
            async with router.tenant(b) as conn:
                await conn.execute(INSERT, 2, timeout=timeout)

        async with behind_a_slow_commit(product, router, a, second) as task:
            yield task
        assert await students(router, b) == [1]
        await nothing_leaked(router)


async def test_a_callers_cancellation_never_reaches_the_commit_before_it(fresh: Product) -> None:
    async with a_write_that_fails(fresh) as task:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_statements_own_timeout_does_not_reach_the_commit_before_it(fresh: Product) -> None:
    async with a_write_that_fails(fresh, timeout=0.05) as task:
        with pytest.raises(TimeoutError):
            await task


async def test_a_deadline_that_passes_during_the_commit_before_it_is_told_at_once(fresh: Product) -> None:
    async with fresh.open(pool={"max": 1}) as router:
        a, b = await fresh.signed_up(router, 2)
        await router.execute(b, INSERT, 1)

        async def second() -> None:
            async with router.tenant(b, timeout=0.3) as conn:
                await conn.execute(INSERT, 2)

        async with behind_a_slow_commit(fresh, router, a, second) as task:
            with pytest.raises(TenantBusy):
                await task
        assert await students(router, b) == [1]
        await nothing_leaked(router)


async def test_a_scope_that_leaves_before_it_has_sent_anything_does_not_disturb_the_commit_before_it(
    fresh: Product,
) -> None:
    async with fresh.open(pool={"max": 1}) as router:
        a, b = await fresh.signed_up(router, 2)

        async def second() -> str:
            async with router.tenant(b):
                return "left"

        async with behind_a_slow_commit(fresh, router, a, second) as task:
            assert await task == "left"
        assert await students(router, b) == []
        await nothing_leaked(router)


@pytest.mark.parametrize("refused", [False, True])
async def test_an_opening_whose_statement_does_not_come_soon_does_not_look_busy(
    fresh: Product, *, refused: bool
) -> None:
    """Sent behind the COMMIT before it, it is opened alone after a moment; the session is idle meanwhile."""
    asked = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = $1 AND state = $2"
    )
    async with fresh.open(pool={"max": 1}) as router, fresh.admin() as admin:
        a, b = await fresh.signed_up(router, 2)
        await router.execute(b, INSERT, 1)
        go_on = asyncio.Event()

        async def second() -> None:
            async with router.tenant(b) as conn:
                await go_on.wait()
                if not refused:
                    await conn.execute(INSERT, 2)

        async with router.tenant(a) as conn:
            await conn.execute(INSERT, 1)
            task = asyncio.create_task(second())
            await in_line(router)
            if refused:
                await admin.execute("UPDATE tenantry.placement SET suspended = true WHERE tenant = $1", str(b))

        async def at_rest() -> bool:
            state = "idle in transaction (aborted)" if refused else "idle in transaction"
            return bool(await admin.fetchval(asked, APP, state))

        await until(at_rest)
        go_on.set()
        await task
        if not refused:
            assert await students(router, b) == [1, 2]
        await nothing_leaked(router)


async def test_the_commit_before_is_not_the_next_ones_use(fresh: Product) -> None:
    ended: list[ScopeEnded] = []

    def keep(event: Event) -> None:
        if isinstance(event, ScopeEnded):
            ended.append(event)

    async with fresh.open(pool={"max": 1}) as router:
        router.events.subscribe(keep)
        a, b = await fresh.signed_up(router, 2)
        await router.execute(b, INSERT, 1)

        async def second() -> None:
            async with router.tenant(b) as conn:
                await conn.execute(INSERT, 2)

        async with behind_a_slow_commit(fresh, router, a, second) as task:
            await task
        use = {event.tenant: event.busy for event in ended}
        assert use[a] > SLOW
        assert use[b] < SLOW / 2


@pytest.mark.parametrize("handed", [False, True])
async def test_a_refused_opening_keeps_what_follows_from_running(fresh: Product, *, handed: bool) -> None:
    """By the simple protocol too, where a message may hold several commands."""
    async with fresh.admin() as admin, fresh.open(pool={"max": 1}) as router:
        await admin.execute(f"CREATE TABLE notes (n int); GRANT ALL ON notes TO {APP}")
        a, b = await fresh.signed_up(router, 2)
        works: list[tuple[str, str, tuple[Any, ...]]] = [
            ("execute", "INSERT INTO notes VALUES (1); COMMIT; INSERT INTO notes VALUES (2)", ()),
            ("execute", "INSERT INTO notes VALUES ($1)", (3,)),
            ("fetch", "INSERT INTO notes VALUES (4) RETURNING n", ()),
            ("executemany", "INSERT INTO notes VALUES ($1)", ([(5,), (6,)],)),
        ]
        for method, query, args in works:  # so that each is prepared
            if args:
                await getattr(router, "execute" if method == "executemany" else method)(
                    a, query, *(args[0][0] if method == "executemany" else args)
                )
        await router.fetch(a, works[2][1])
        await admin.execute("TRUNCATE notes")
        await admin.execute("UPDATE tenantry.placement SET suspended = true WHERE tenant = $1", str(b))

        async def refused(method: str, query: str, args: tuple[Any, ...]) -> None:
            with pytest.raises(TenantSuspended):
                async with router.tenant(b) as conn:
                    await getattr(conn, method)(query, *args)

        for work in works:
            if handed:
                async with router.tenant(a) as conn:
                    await conn.fetch("SELECT 1")
                    task = asyncio.create_task(refused(*work))
                    await in_line(router)
                await task
            else:
                await refused(*work)
            assert await admin.fetchval("SELECT count(*) FROM notes") == 0, work
        await nothing_leaked(router)


async def test_a_connection_that_breaks_before_the_first_answer_costs_its_caller_nothing(direct: Product) -> None:
    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 2}) as router:
            [a] = await product.signed_up(router)
            await router.execute(a, INSERT, 1)
            for verdict, number in ((Verdict.CUT, 2), (Verdict.RESET, 3), (Verdict.CUT_AFTER, 4)):
                async with router.tenant(a) as conn:
                    stop = proxy.stop_when(b"CALL tenantry.enter", verdict=verdict)
                    held = conn
                    await conn.execute(INSERT, number)
                    assert conn is held
                assert stop.passed.is_set()
            assert await students(router, a) == [1, 2, 3, 4], "each once"
            await nothing_leaked(router)


async def test_a_first_statement_that_was_cut_short_fails_its_scope(direct: Product) -> None:
    """Whatever of the opening the cancel request has met: nothing runs outside of the scope's transaction."""
    async with direct.open(pool={"max": 1}) as router:
        [a] = await direct.signed_up(router)
        await router.execute(a, INSERT, 1)
        for seconds in (0.0, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03):
            went_on, told = False, ""
            try:
                async with router.tenant(a) as conn:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(conn.fetch("SELECT pg_sleep(30)"), seconds)
                    with suppress(asyncpg.InFailedSQLTransactionError):
                        await conn.execute("INSERT INTO students (id) VALUES ($1)", 99)
                        went_on = True  # nothing of the first one had been sent
            except ScopeLost as lost:
                told = lost.reason
            assert told == ("" if went_on else "failed")
            assert await students(router, a) == [1, 99][: 1 + went_on]
            await router.execute(a, "DELETE FROM students WHERE id = $1", 99)
        await nothing_leaked(router)


async def test_a_statement_that_nobody_awaited_never_runs_in_the_next_scope(direct: Product) -> None:
    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 1}) as router:
            a, b = await product.signed_up(router, 2)
            for tenant in (a, b):
                await router.execute(tenant, INSERT, 1)
            for query in (
                "UPDATE students SET name = 'stray'",
                "UPDATE students SET name = 'stray' WHERE id = $1",
            ):
                args = (1,) if "$1" in query else ()
                for pauses in range(4):
                    proxy.stop_when(b"CALL tenantry.enter")
                    with contextlib.suppress(ScopeLost):
                        async with router.tenant(a) as conn:
                            stray = asyncio.create_task(conn.execute(query, *args))
                            for _ in range(pauses):
                                await asyncio.sleep(0)
                    proxy.hooks.clear()
                    proxy.release()
                    await router.execute(b, "UPDATE students SET name = $1", "mine")
                    with suppress(Exception):
                        await stray
                    assert await router.fetchval(b, "SELECT name FROM students WHERE id = 1") == "mine"
            await nothing_leaked(router)


async def test_two_statements_at_once_are_refused_as_asyncpg_refuses_them(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        [a] = await direct.signed_up(router)
        await router.execute(a, INSERT, 1)
        async with router.tenant(a) as conn:
            told = await asyncio.gather(
                conn.fetch("SELECT 1"), conn.fetch("SELECT 2"), conn.execute("SELECT 3"), return_exceptions=True
            )
            assert [type(one) for one in told[1:]] == [asyncpg.InterfaceError] * 2
            assert isinstance(told[0], list)
        assert await students(router, a) == [1]
        await nothing_leaked(router)


@pytest.mark.parametrize(
    "first", ["transaction", "cursor", "iteration", "prepare", "copy", "executemany", "plain"]
)
async def test_whatever_comes_first_opens_the_scope_where_the_tenant_lives_now(fresh: Product, first: str) -> None:
    name = f"home_{abs(hash(fresh.new_id()))}"
    async with fresh.dedicated(name) as section:
        target = section["dsn"].rpartition("/")[2]
        async with fresh.open(databases={name: section}) as stale:
            [a] = await fresh.signed_up(stale)
            await stale.execute(a, INSERT, 1)
            async with fresh.admin(target) as home, fresh.fence(a) as mover:
                await home.execute("INSERT INTO tenantry.placement VALUES ($1, $2, 2)", str(a), name)
                await mover.execute(
                    "UPDATE tenantry.placement SET database = $2, epoch = 2 WHERE tenant = $1", str(a), name
                )
            async with stale.tenant(a) as conn:
                held = conn
                if first == "transaction":
                    async with conn.transaction():
                        await conn.execute(INSERT, 7)
                elif first == "cursor":
                    cursor = await conn.cursor("SELECT 7 AS n")
                    assert (await cursor.fetchrow())["n"] == 7
                elif first == "iteration":
                    assert [row["n"] async for row in conn.cursor("SELECT 7 AS n")] == [7]
                elif first == "prepare":
                    assert await (await conn.prepare("SELECT 7")).fetchval() == 7
                elif first == "copy":
                    await conn.copy_records_to_table("students", records=[(7, "x")], columns=["id", "name"])
                elif first == "executemany":
                    await conn.executemany(INSERT, [(7,)])
                else:
                    await conn.execute("INSERT INTO students (id) VALUES (7)")
                assert conn is held
                assert await conn.fetchval("SELECT current_database()") == target
                assert conn.is_in_transaction()
            await nothing_leaked(stale)


# -- one-shots ---------------------------------------------------------------------------------------


async def test_a_one_shot_that_fails_leaves_nothing_and_tells_why(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        [a] = await direct.signed_up(router)
        await router.execute(a, INSERT, 1)
        for _ in range(3):
            with pytest.raises(asyncpg.UniqueViolationError):
                await router.execute(a, INSERT, 1)
            with pytest.raises(asyncpg.ForeignKeyViolationError):  # deferred: told by COMMIT
                await router.execute(a, "INSERT INTO enrolments (student, course) VALUES ($1, 9)", 404)
            with pytest.raises(ScopeLost):
                await router.fetch(a, "COMMIT")
            with pytest.raises(asyncpg.DataError):
                await router.fetchval(a, "SELECT $1::int", "not a number")
        assert await students(router, a) == [1]
        await nothing_leaked(router)


async def test_a_one_shot_with_types_that_asyncpg_must_ask_for_is_one_transaction(fresh: Product) -> None:
    async with fresh.admin() as admin, fresh.open(pool={"max": 1}) as router:
        await admin.execute("CREATE TYPE pair AS (a int, b text)")
        [a] = await fresh.signed_up(router)
        for _ in range(2):
            assert await router.fetchval(a, "SELECT ROW(1, $1)::pair", "x") == (1, "x")
            await router.execute(
                a, "INSERT INTO students (id, name) SELECT (p).a, (p).b FROM (SELECT $1::pair p) t", (5, "y")
            )
            assert await students(router, a) == [5]
            await router.execute(a, "DELETE FROM students WHERE id = ANY($1)", [5])
        await nothing_leaked(router)


async def test_large_results_arrive_whole(direct: Product) -> None:
    async with direct.open(pool={"max": 2}) as router:
        [a] = await direct.signed_up(router)

        async def ask(number: int) -> None:
            rows = await router.fetch(
                a, "SELECT n, repeat('x', 100) FROM generate_series(1, $1::int) n", 5000 + number
            )
            assert [row["n"] for row in rows] == list(range(1, 5001 + number))

        await asyncio.gather(*(ask(number) for number in range(6)))
        await nothing_leaked(router)


async def test_a_one_shot_that_is_cancelled_at_any_moment_leaks_nothing(direct: Product) -> None:
    async with direct.open(pool={"max": 2}) as router:
        [a] = await direct.signed_up(router)
        await router.execute(a, INSERT, 0)
        for number in range(1, 60):
            task = asyncio.create_task(router.execute(a, INSERT, number))
            await asyncio.sleep(number % 12 / 4000)
            task.cancel()
            with suppress(asyncio.CancelledError):
                assert await task == "INSERT 0 1"
                assert number in await students(router, a)
        await nothing_leaked(router)


async def test_a_caller_that_names_a_deadline_is_told_by_then_although_the_server_is_silent(
    direct: Product,
) -> None:
    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 2}, router={"connect_timeout": 1}) as router:
            [a] = await product.signed_up(router)
            await router.fetch(a, "SELECT 1")
            assert await router.fetchval(a, "SELECT 1 FROM pg_sleep(0.3)", timeout=0.2) == 1, "only opening counts"
            proxy.hold()
            with pytest.raises(DatabaseUnavailable):
                await router.fetch(a, "SELECT 1", timeout=0.2)
            proxy.cut()
            assert await router.fetchval(a, "SELECT 1") == 1
            await nothing_leaked(router)


async def test_connections_that_a_firewall_has_forgotten_cost_one_caller_a_moment(
    direct: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding, "QUIET", 0.0)
    monkeypatch.setattr(binding, "ANSWER", 0.3)
    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 4}) as router:
            [a] = await product.signed_up(router)
            await asyncio.gather(*(router.fetch(a, "SELECT pg_sleep(0.1)") for _ in range(3)))
            await nothing_leaked(router)
            proxy.hold()  # new connections pass, old ones are silent
            before = proxy.connections
            async with asyncio.timeout(20):
                assert await router.fetchval(a, "SELECT 1") == 1
            assert proxy.connections > before
            proxy.release()


# -- where asyncpg is not as expected ----------------------------------------------------------------


async def test_where_the_self_test_fails_scopes_are_opened_by_flights_of_their_own(
    direct: Product, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    depart = openings.OpeningProtocol._depart

    def careless(self: openings.OpeningProtocol, *, carries: bool) -> None:
        """As if asyncpg had put a Sync of its own in front of its statement."""
        depart(self, carries=carries)
        self._write(SYNC)

    monkeypatch.setattr(openings.OpeningProtocol, "_depart", careless)
    opened: list[ConnectionOpened] = []

    def keep(event: Event) -> None:
        if isinstance(event, ConnectionOpened):
            opened.append(event)

    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 1}) as router:
            router.events.subscribe(keep)
            [a] = await product.signed_up(router)
            await router.execute(a, INSERT, 1)
            before = proxy.flights
            assert await router.fetchval(a, "SELECT name FROM students WHERE id = 1") == "x"
            assert await router.fetchval(a, "SELECT name FROM students WHERE id = 1") == "x"
            assert proxy.flights - before >= 6
            assert not opened or not opened[-1].pipelined
            assert router.pools.open_pools()["shared"].unpipelined == 1
            assert "their openings can't travel" in caplog.text
            await nothing_leaked(router)


async def test_the_self_test_leaves_a_connection_as_it_was(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        [a] = await direct.signed_up(router)
        async with router.tenant(a) as conn:
            await conn.fetch("SELECT 1")
        pooled = router.pools.open_pools()["shared"].connections.idle[0]
        assert pooled.proof_context.pipelined
        assert await self_test.run(pooled.connection, 5.0) is None
        assert not pooled.connection.is_in_transaction()
        assert pooled.connection.get_settings().application_name == "tenantry"
