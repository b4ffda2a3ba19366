"""G5: application code that ends the transaction inside a scope gets `ScopeLost`, not silence."""

# ruff: noqa: PT012  (what raises is the end of the scope, so the whole scope stands in the block)

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from tenantry import Router, ScopeLost
from tenantry.ids import TenantId
from tests.support.product import Product
from tests.support.proxy import Proxy, Verdict
from tests.support.quiet import nothing_leaked
from tests.support.until import until

#: What asyncpg raises of a connection that is gone, one way or another.
GONE = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
INSERT = "INSERT INTO students (id, name) VALUES ($1, 'x')"


async def ids(router: Router, tenant: TenantId) -> list[int]:
    return [row["id"] for row in await router.fetch(tenant, "SELECT id FROM students ORDER BY id")]


@pytest.mark.parametrize(
    "ending",
    [
        "COMMIT",
        "ROLLBACK",
        "END",
        "ABORT",
        "COMMIT; BEGIN",
        "ROLLBACK; BEGIN",
        "COMMIT AND CHAIN",
        "ROLLBACK AND CHAIN",
        "COMMIT; BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1",
        "COMMIT; BEGIN; SAVEPOINT a",
        "DO $$ BEGIN END $$; COMMIT",
    ],
)
async def test_ending_the_transaction_inside_the_scope_raises_scope_lost(product: Product, ending: str) -> None:
    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        with pytest.raises(ScopeLost) as lost:
            async with router.tenant(a) as conn:
                await conn.execute(INSERT, 1)
                await conn.execute(ending)
        assert lost.value.reason == "ended"
        assert lost.value.tenant == a
        assert await ids(router, b) == []
        committed = ending.startswith(("COMMIT", "END", "DO"))
        assert await ids(router, a) == ([1] if committed else [])
        await nothing_leaked(router)


@pytest.mark.parametrize("ending", ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "COMMIT; BEGIN"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_ended_transaction_is_told_whatever_the_session_is_called_and_set_to(
    product: Product, ending: str, when: str
) -> None:
    """A product that names its sessions, and even one that sets the tenant by hand."""
    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        with pytest.raises(ScopeLost) as lost:
            async with router.tenant(a) as conn:
                name = await conn.fetchval("SELECT current_setting('application_name')")
                disguise = f"SET application_name = '{name}'; SET app.current_tenant = '{a}'"
                await conn.execute(INSERT, 1)
                await conn.execute(f"{disguise}; {ending}" if when == "before" else f"{ending}; {disguise}")
                await conn.execute("SELECT 1")
        assert lost.value.reason == "ended"
        assert await ids(router, b) == []
        assert await ids(router, a) == ([1] if ending.startswith("COMMIT") else [])
        await nothing_leaked(router)


async def test_bytes_that_look_like_the_servers_word_for_commit_end_nothing(product: Product) -> None:
    """Neither in a text nor in binary values, whole or at the seams of what the network hands over."""
    async with product.open(pool={"max": 1}) as router:
        [a] = await product.signed_up(router)
        async with router.tenant(a) as conn:
            await conn.execute(INSERT, 1)
            for word in ("COMMIT", "ROLLBACK"):
                framed = b"C" + (len(word) + 5).to_bytes(4, "big") + word.encode() + b"\0"
                assert await conn.fetchval("SELECT $1::bytea", framed) == framed
                assert await conn.fetchval("SELECT convert_from($1, 'UTF8')", word.encode()) == word
                many = await conn.fetch("SELECT $1::bytea AS b FROM generate_series(1, 20000)", framed)
                assert len(many) == 20000
        assert await ids(router, a) == [1]


async def test_what_runs_after_the_transaction_was_ended_sees_and_writes_nothing(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        a, _ = await product.signed_up(router, 2)
        await router.execute(a, INSERT, 1)
        with pytest.raises(ScopeLost):
            async with router.tenant(a) as conn:
                await conn.execute("COMMIT; BEGIN")
                assert await conn.fetch("SELECT * FROM students") == []
                assert await conn.execute("UPDATE students SET name = 'y'") == "UPDATE 0"
        await nothing_leaked(router)


async def test_the_scope_bound_to_another_tenant_by_hand_is_lost(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        a, b = await direct.signed_up(router, 2)
        with pytest.raises(ScopeLost):
            async with router.tenant(a) as conn:
                await conn.execute(f"COMMIT; BEGIN; SELECT tenantry.bind('{b}')")
                await conn.execute(INSERT, 1)
        assert (await ids(router, a), await ids(router, b)) == ([], [])
        await nothing_leaked(router)


async def test_an_error_swallowed_in_the_scope_is_not_a_silent_rollback(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        [a] = await product.signed_up(router)
        with pytest.raises(ScopeLost) as lost:
            async with router.tenant(a) as conn:
                await conn.execute(INSERT, 1)
                with pytest.raises(asyncpg.UniqueViolationError):
                    await conn.execute(INSERT, 1)
        assert lost.value.reason == "failed"
        assert await ids(router, a) == []
        await nothing_leaked(router)


async def _by_cursor(conn: Any) -> None:
    async for _ in conn.cursor("SELECT 1 / (3 - i) FROM generate_series(1, 5) AS i", prefetch=1):
        pass


async def _by_statement(conn: Any) -> None:
    statement = await conn.prepare("SELECT 1 / $1::int")
    await statement.fetchval(0)


async def _by_fetchmany(conn: Any) -> None:
    await conn.fetchmany("SELECT 1 / $1::int", [(1,), (0,)])


async def _by_timeout(conn: Any) -> None:
    await conn.execute("SELECT pg_sleep(60)", timeout=0.01)


async def _by_copy(conn: Any) -> None:
    async def sink(_: bytes) -> None:
        pass

    await conn.copy_from_query("SELECT 1 / 0", output=sink)


@pytest.mark.parametrize("fail", [_by_cursor, _by_statement, _by_fetchmany, _by_timeout, _by_copy])
async def test_an_error_swallowed_is_noticed_by_whatever_way_it_came(direct: Product, fail: Any) -> None:
    async with direct.open(pool={"max": 1}) as router:
        [a] = await direct.signed_up(router)
        with pytest.raises(ScopeLost) as lost:
            async with router.tenant(a) as conn:
                await conn.execute(INSERT, 1)
                with pytest.raises((asyncpg.PostgresError, TimeoutError)):
                    await fail(conn)
        assert lost.value.reason == "failed"
        assert await ids(router, a) == []
        await nothing_leaked(router)


async def test_an_error_inside_a_savepoint_is_fixed_by_it(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        [a] = await product.signed_up(router)
        async with router.tenant(a) as conn:
            await conn.execute(INSERT, 1)
            with pytest.raises(asyncpg.UniqueViolationError):
                async with conn.transaction():
                    await conn.execute(INSERT, 1)
            await conn.execute(INSERT, 2)
        assert await ids(router, a) == [1, 2]


async def test_a_savepoint_rolled_back_keeps_the_tenant(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        [a] = await product.signed_up(router)
        async with router.tenant(a) as conn:
            await conn.execute("SAVEPOINT one; SET LOCAL application_name = 'mine'; SET LOCAL work_mem = '70MB'")
            await conn.execute("ROLLBACK TO one")
            await conn.execute(INSERT, 1)
            await conn.execute("SET LOCAL application_name = 'mine'")
        assert await ids(router, a) == [1]


async def test_a_statement_still_running_at_the_scopes_end_is_told(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        [a] = await direct.signed_up(router)
        with pytest.raises(ScopeLost) as lost:
            async with router.tenant(a) as conn:
                await conn.execute(INSERT, 1)
                running = asyncio.create_task(conn.execute("SELECT pg_sleep(60)"))
                await asyncio.sleep(0)
        assert lost.value.reason == "busy"
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await running
        assert await ids(router, a) == []
        await nothing_leaked(router)


async def test_the_server_process_killed_in_the_scope_is_told(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router, direct.admin() as admin:
        [a] = await direct.signed_up(router)
        with pytest.raises(ScopeLost) as lost:
            async with router.tenant(a) as conn:
                await conn.execute(INSERT, 1)
                await admin.execute("SELECT pg_terminate_backend($1, 10000)", conn.get_server_pid())
                with pytest.raises(GONE):
                    await conn.execute("SELECT 1")
        assert lost.value.reason == "closed"
        assert await ids(router, a) == []
        await nothing_leaked(router)


def has_heard(router: Router) -> bool:
    """Whether the last words of the only connection's server have been read."""
    pool = router.pools.open_pools()["shared"]
    [pooled] = {*pool.connections.idle, *pool.connections.busy}
    return bool(pooled.connection._protocol.said_goodbye)  # type: ignore[attr-defined]


@pytest.mark.parametrize("when", ["in the scope", "idle"])
async def test_a_server_that_says_goodbye_and_does_not_hang_up_is_told(direct: Product, when: str) -> None:
    """Its last words have arrived, the end of the connection has not: asyncpg calls that an error of its own."""
    async with Proxy(direct.server.host, direct.server.port) as proxy, direct.admin() as admin:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 1}) as router:
            [a] = await direct.signed_up(router)

            async def kill(pid: int) -> None:
                goodbye = proxy.stop_when(b"terminating connection", "server", Verdict.HOLD_AFTER)
                await admin.execute("SELECT pg_terminate_backend($1, 10000)", pid)
                await goodbye.passed.wait()
                await until(lambda: has_heard(router), what="the router has read it")

            if when == "idle":
                pid = await router.fetchval(a, "SELECT pg_backend_pid()")
                await kill(pid)
            else:
                with pytest.raises(ScopeLost) as lost:
                    async with router.tenant(a) as conn:
                        await conn.execute(INSERT, 1)
                        await kill(conn.get_server_pid())
                assert lost.value.reason == "closed"
            assert await ids(router, a) == []
            await nothing_leaked(router)
