"""G3: nothing of a scope survives its end, on the same server process, however the connection goes on."""

# ruff: noqa: PT012  (what raises is the end of the scope, so the whole scope stands in the block)

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import asyncpg
import pytest

from tests.support.product import APP, GUEST, Product
from tests.support.until import until


class Leak(NamedTuple):
    """Something that a scope may leave on its connection."""

    leave: str
    find: str
    clean: Any
    """What `find` answers when nothing was left; an exception class when it must fail."""


LEAKS = {
    "a setting": Leak("SET work_mem = '77MB'", "SELECT current_setting('work_mem') = '77MB'", False),
    "a setting of the application's own": Leak(
        "SET app.secret = 'x'", "SELECT coalesce(current_setting('app.secret', true), '')", ""
    ),
    "the search path": Leak("SET search_path = pg_temp", "SHOW search_path", '"$user", public'),
    "transaction defaults": Leak(
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
        "SELECT concat_ws(' ', current_setting('transaction_read_only'), "
        "current_setting('default_transaction_read_only'), current_setting('transaction_isolation'))",
        "off off read committed",
    ),
    "a role": Leak(f"SET ROLE {GUEST}", "SELECT current_user::text", APP),
    "a session authorization": Leak(f"SET SESSION AUTHORIZATION {APP}", "SELECT session_user::text", APP),
    "a temporary table": Leak("CREATE TEMP TABLE loot AS SELECT 'x' AS x", "SELECT x FROM loot", LookupError),
    "a temporary view": Leak("CREATE TEMP VIEW loot AS SELECT 'x' AS x", "SELECT x FROM loot", LookupError),
    "a temporary function": Leak(
        "CREATE FUNCTION pg_temp.loot() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT count(*) FROM pg_proc WHERE proname = 'loot' AND pronamespace = pg_my_temp_schema()",
        0,
    ),
    "a session advisory lock": Leak(
        "SELECT pg_advisory_lock(4242), pg_advisory_lock_shared(4243), pg_advisory_lock(42, 44)",
        "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' "
        "AND classid <> tenantry.lock_space()::oid",
        0,
    ),
    "a LISTEN": Leak("LISTEN gossip", "SELECT count(*) FROM pg_listening_channels()", 0),
    "a cursor WITH HOLD": Leak(
        "DECLARE loot CURSOR WITH HOLD FOR SELECT name FROM students",
        "SELECT count(*) FROM pg_cursors WHERE name = 'loot'",
        0,
    ),
    "a cursor": Leak(
        "DECLARE loot CURSOR FOR SELECT name FROM students",
        "SELECT count(*) FROM pg_cursors WHERE name = 'loot'",
        0,
    ),
    "lastval": Leak("INSERT INTO students (name) VALUES ('x')", "SELECT lastval()", LookupError),
    "a statement prepared in SQL": Leak(
        "PREPARE loot AS SELECT 'x'", "SELECT count(*) FROM pg_prepared_statements WHERE name = 'loot'", 0
    ),
}
#: What PostgreSQL keeps of them when nobody resets; for the test of the tests.
SURVIVES_A_COMMIT = set(LEAKS) - {"a cursor", "a session authorization"}
MISSING = (asyncpg.UndefinedTableError, asyncpg.ObjectNotInPrerequisiteStateError)


class LeaveByError(Exception):
    """Ends a scope by an exception."""


async def look(connection: Any, leak: Leak) -> Any:
    try:
        async with connection.transaction():
            return await connection.fetchval(leak.find)
    except MISSING:
        return LookupError


async def succession(
    product: Product, way: str, leave: Callable[[Any], Awaitable[None]], find: Callable[[Any], Awaitable[Any]]
) -> tuple[bool, Any]:
    """One tenant's scope and then another's on the only connection there is.

    Returns whether the server's process was the same, and what `find` found.
    """
    pids: list[int] = []
    async with product.open(pool={"max": 1}) as router:
        first, second = await product.signed_up(router, 2)

        async def heir() -> Any:
            async with router.tenant(second) as conn:
                pids.append(await conn.fetchval("SELECT pg_backend_pid()"))
                return await find(conn)

        waiting: asyncio.Task[Any] | None = None
        try:
            async with router.tenant(first) as conn:
                pids.append(await conn.fetchval("SELECT pg_backend_pid()"))
                await leave(conn)
                if way == "hand-off":
                    waiting = asyncio.create_task(heir())
                    pool = router.pools.open_pools()["shared"]
                    await until(lambda: pool.admission.waiting == 1)
                if way == "rollback":
                    raise LeaveByError
        except LeaveByError:
            pass
        found = await (waiting or heir())
        return pids[0] == pids[1], found


@pytest.mark.parametrize("way", ["commit", "hand-off", "rollback"])
@pytest.mark.parametrize("name", LEAKS)
async def test_the_next_tenant_on_the_same_server_process_finds_nothing_of(
    product: Product, name: str, way: str
) -> None:
    leak = LEAKS[name]

    async def leave(conn: Any) -> None:
        await conn.execute(leak.leave)

    same, found = await succession(product, way, leave, lambda conn: look(conn, leak))
    assert found == leak.clean
    # A connection on which SQL's own PREPARE was used is closed instead.
    assert same or "prepared" in name


@pytest.mark.parametrize("name", sorted(SURVIVES_A_COMMIT))
async def test_of_the_tests_each_leak_is_there_when_nobody_resets(direct: Product, name: str) -> None:
    leak = LEAKS[name]
    connection: Any = await asyncpg.connect(direct.dsn())
    async with direct.open() as router:
        [tenant] = await direct.signed_up(router)
    try:
        await connection.execute(f"BEGIN; SELECT tenantry.bind('{tenant}')")
        await connection.execute(leak.leave)
        await connection.execute("COMMIT")
        assert await look(connection, leak) != leak.clean
    finally:
        await connection.close()


async def test_the_tenant_itself_set_for_the_session_does_not_reach_the_next_scope(product: Product) -> None:
    async def leave(conn: Any) -> None:
        bound = await conn.fetchval("SELECT tenantry.current_tenant()::text")
        await conn.execute(f"SET app.current_tenant = '{bound}'")

    async def find(conn: Any) -> Any:
        return await conn.fetchval(
            "SELECT tenantry.current_tenant()::text || '|' || current_setting('application_name')"
        )

    same, found = await succession(product, "commit", leave, find)
    assert same
    bound, _, tag = str(found).partition("|")
    assert tag == f"tenantry:{bound}"


async def test_a_prepared_transaction_ends_the_scope_with_an_error_and_shows_the_next_one_nothing(
    direct: Product,
) -> None:
    from tenantry import ScopeLost

    gid = f"loot {direct.new_id()}"
    async with direct.open(pool={"max": 1}) as router:
        first, second = await direct.signed_up(router, 2)
        with pytest.raises(ScopeLost) as lost:
            async with router.tenant(first) as conn:
                await conn.execute("INSERT INTO students (name) VALUES ('in doubt')")
                await conn.execute(f"PREPARE TRANSACTION '{gid}'")
        assert lost.value.reason == "ended"
        assert await router.fetchval(second, "SELECT count(*) FROM students") == 0
        assert await router.fetchval(first, "SELECT count(*) FROM students") == 0
    async with direct.admin() as admin:
        await admin.execute(f"ROLLBACK PREPARED '{gid}'")


async def test_statements_cursors_and_transactions_kept_after_the_scope_are_dead(product: Product) -> None:
    async def nothing(data: bytes) -> None:
        raise AssertionError(f"read another tenant's rows: {data!r}")

    async with product.open(pool={"max": 1}) as router:
        first, second = await product.signed_up(router, 2)
        await router.execute(second, "INSERT INTO students (name) VALUES ('secret')")
        async with router.tenant(first) as kept:
            pid = await kept.fetchval("SELECT pg_backend_pid()")
            statement = await kept.prepare("SELECT name FROM students")
            fetch_of_statement = statement.fetch
            cursor = await kept.cursor("SELECT name FROM students")
            factory = kept.cursor("SELECT name FROM students")
            transaction = kept.transaction()
            started = kept.transaction()
            await started.start()
            method, copy, make_cursor = kept.fetch, kept.copy_from_query, kept.cursor
            copy_table, make_transaction, many = kept.copy_from_table, kept.transaction, kept.fetchmany
        async with router.tenant(second) as conn:
            assert await conn.fetchval("SELECT pg_backend_pid()") == pid

            async def iterate() -> None:
                async for row in factory:
                    raise AssertionError(f"read another tenant's row: {row}")

            uses: dict[str, Callable[[], Awaitable[Any]]] = {
                "connection": lambda: kept.fetch("SELECT name FROM students"),
                "method": lambda: method("SELECT name FROM students"),
                "statement": lambda: statement.fetch(),
                "method of a statement": lambda: fetch_of_statement(),
                "cursor": lambda: cursor.fetch(1),
                "cursor factory": iterate,
                "transaction": lambda: transaction.start(),
                "started transaction": lambda: started.rollback(),
                "copy": lambda: copy("SELECT name FROM students", output=nothing),
                "method copy_from_table": lambda: copy_table("students", output=nothing),
                "method fetchmany": lambda: many("SELECT name FROM students", [()]),
                "method transaction": lambda: make_transaction().start(),
                "method cursor": lambda: make_cursor("SELECT name FROM students"),
            }
            for what, use in uses.items():
                with pytest.raises(asyncpg.InterfaceError):
                    pytest.fail(f"{what} still works: {await use()}")
            assert await conn.fetchval("SELECT name FROM students") == "secret"


@pytest.mark.parametrize(
    "name",
    [
        "add_listener",
        "add_log_listener",
        "add_termination_listener",
        "add_query_logger",
        "query_logger",
        "set_type_codec",
        "set_builtin_type_codec",
        "reset_type_codec",
    ],
)
async def test_what_would_stay_on_the_connection_is_refused(direct: Product, name: str) -> None:
    async with direct.open() as router:
        [tenant] = await direct.signed_up(router)
        async with router.tenant(tenant) as conn:
            with pytest.raises(asyncpg.InterfaceError, match="not available inside a scope"):
                getattr(conn, name)("x")
            assert await conn.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(
    "method", ["execute", "fetch", "fetchrow", "fetchval", "executemany", "prepare", "fetchmany"]
)
async def test_sqls_own_prepare_is_noticed_by_whatever_method_it_comes(direct: Product, method: str) -> None:
    async def leave(conn: Any) -> None:
        arguments: list[Any] = [[()]] if method in ("executemany", "fetchmany") else []
        made = await getattr(conn, method)("PREPARE loot AS SELECT 'x'", *arguments)
        if method == "prepare":
            await made.fetch()

    async def find(conn: Any) -> Any:
        return await conn.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name = 'loot'")

    _, found = await succession(direct, "commit", leave, find)
    assert found == 0
