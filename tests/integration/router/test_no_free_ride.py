"""G12: no way of using a scope is free of metering, and only a scope's first statement is ever sent again."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
import pytest
from asyncpg.cursor import Cursor, CursorIterator
from asyncpg.prepared_stmt import PreparedStatement

from tenantry.errors import ScopeLost
from tenantry.events import ScopeEnded
from tests.support.product import Product
from tests.support.quiet import nothing_leaked

#: Seconds that the server works in each way below; and what of it must at least be metered.
SECONDS: Final = 0.12
ROWS: Final = "SELECT pg_sleep(0.03) FROM generate_series(1, 4)"
WHOLE: Final = "SELECT pg_sleep(0.12)"

Way = Callable[[Any], Awaitable[Any]]


async def nowhere(data: bytes) -> None:
    pass


async def iterate(conn: Any) -> None:
    async for _ in conn.cursor(ROWS, prefetch=1):
        pass


async def fetch_by_cursor(conn: Any) -> None:
    cursor = await conn.cursor(ROWS)
    await cursor.fetch(2)
    await cursor.fetchrow()
    await cursor.forward(1)


async def iterate_statement(conn: Any) -> None:
    statement = await conn.prepare(ROWS)
    async for _ in statement.cursor(prefetch=2):
        pass


async def statement(conn: Any, method: str, *args: Any) -> None:
    await getattr(await conn.prepare(WHOLE), method)(*args)


async def fetchmany_of_statement(conn: Any) -> None:
    await (await conn.prepare("SELECT pg_sleep($1::float8)")).fetchmany([(0.03,)] * 4)


async def executemany_of_statement(conn: Any) -> None:
    await (await conn.prepare("SELECT pg_sleep($1::float8)")).executemany([(0.03,)] * 4)


async def in_a_savepoint(conn: Any) -> None:
    async with conn.transaction():
        await conn.execute("DECLARE held CURSOR FOR SELECT 1")
        await conn.execute("SELECT set_config('lock_timeout', '1s', true)")
        await conn.execute(WHOLE)


async def load(conn: Any, method: str, **source: Any) -> None:
    await conn.execute("CREATE TEMP TABLE slow (n int CHECK (pg_sleep(0.03) IS NOT NULL)) ON COMMIT DROP")
    await getattr(conn, method)("slow", schema_name="pg_temp", **source)


async def at_commit(conn: Any) -> None:
    await conn.execute(f"DECLARE kept CURSOR WITH HOLD FOR {WHOLE}")


async def copy_of_slow_view(conn: Any) -> None:
    await conn.execute("CREATE TEMP TABLE slow ON COMMIT DROP AS SELECT pg_sleep(0.12)::text")
    await conn.copy_from_table("slow", schema_name="pg_temp", output=nowhere)


#: Every public method of asyncpg's connection that makes the server work, each with a way to use it.
METERED: Final[dict[str, Way]] = {
    "execute": lambda c: c.execute(WHOLE),
    "executemany": lambda c: c.executemany("SELECT pg_sleep($1::float8)", [(0.03,)] * 4),
    "fetch": lambda c: c.fetch(WHOLE),
    "fetchrow": lambda c: c.fetchrow(WHOLE),
    "fetchval": lambda c: c.fetchval(WHOLE),
    "fetchmany": lambda c: c.fetchmany("SELECT pg_sleep($1::float8)", [(0.03,)] * 4),
    "cursor": iterate,
    "cursor, fetched": fetch_by_cursor,
    "prepare, fetch": lambda c: statement(c, "fetch"),
    "prepare, fetchrow": lambda c: statement(c, "fetchrow"),
    "prepare, fetchval": lambda c: statement(c, "fetchval"),
    "prepare, fetchmany": fetchmany_of_statement,
    "prepare, executemany": executemany_of_statement,
    "prepare, explain": lambda c: statement(c, "explain"),
    "prepare, cursor": iterate_statement,
    "transaction": in_a_savepoint,
    "copy_from_query": lambda c: c.copy_from_query(WHOLE, output=nowhere),
    "copy_from_table": copy_of_slow_view,
    "copy_records_to_table": lambda c: load(c, "copy_records_to_table", records=[(1,)] * 4, columns=["n"]),
    "copy_to_table": lambda c: load(c, "copy_to_table", source=io.BytesIO(b"1\n" * 4), columns=["n"]),
    "work left for COMMIT": at_commit,
}

#: Public methods that run nothing on the server for the application, or are refused inside a scope.
FREE: Final = frozenset(
    [
        "add_listener",
        "add_log_listener",
        "add_query_logger",
        "add_termination_listener",
        "close",
        "get_reset_query",
        "get_server_pid",
        "get_server_version",
        "get_settings",
        "introspect_types",
        "is_closed",
        "is_in_transaction",
        "query_logger",
        "reload_schema_state",
        "remove_listener",
        "remove_log_listener",
        "remove_query_logger",
        "remove_termination_listener",
        "reset",
        "reset_type_codec",
        "set_builtin_type_codec",
        "set_type_codec",
        "terminate",
    ]
)
#: The same of prepared statements and cursors.
FREE_OF_STATEMENTS: Final = frozenset(
    ["get_attributes", "get_name", "get_parameters", "get_query", "get_statusmsg"]
)


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}


def test_every_public_method_of_asyncpg_is_metered_or_named_as_free() -> None:
    """A method that a new asyncpg brings fails here until somebody has looked at it."""
    named = {way.partition(",")[0] for way in METERED}
    assert public(asyncpg.Connection) - named - FREE == set()
    of_statements = {way.rpartition(", ")[2] for way in METERED if way.startswith("prepare")}
    assert public(PreparedStatement) - of_statements - FREE_OF_STATEMENTS == set()
    assert public(Cursor) == {"fetch", "fetchrow", "forward"}
    assert public(CursorIterator) == set()


async def test_every_second_that_the_server_works_is_the_tenant_s_by_whatever_way_it_was_asked(
    fresh: Product,
) -> None:
    ended: list[ScopeEnded] = []
    sink: Any = lambda event: ended.append(event) if isinstance(event, ScopeEnded) else None  # noqa: E731
    async with fresh.open(sinks=(sink,)) as router:
        [tenant] = await fresh.signed_up(router)
        for name, way in METERED.items():
            async with router.tenant(tenant) as conn:
                await way(conn)
            wanted = 0.0 if name in {"prepare, explain", "copy_from_table"} else SECONDS
            assert ended[-1].busy >= wanted, name
            assert ended[-1].statements >= 1, name
            assert ended[-1].busy <= ended[-1].held + 1e-6, name


async def test_a_statement_that_still_runs_at_the_scope_s_end_is_metered_up_to_there(fresh: Product) -> None:
    ended: list[ScopeEnded] = []
    sink: Any = lambda event: ended.append(event) if isinstance(event, ScopeEnded) else None  # noqa: E731
    async with fresh.open(sinks=(sink,)) as router:
        [tenant] = await fresh.signed_up(router)
        with pytest.raises(ScopeLost):
            await _leave_one_running(router.tenant(tenant))
        assert ended[-1].busy >= 0.2
        await nothing_leaked(router)


async def _leave_one_running(scope: Any) -> None:
    async with scope as conn:
        running = asyncio.create_task(conn.fetch("SELECT pg_sleep(30)"))
        async with asyncio.timeout(None):
            await asyncio.wait([running], timeout=0.2)
        running.add_done_callback(lambda task: task.cancelled() or task.exception())


WORK_BEFORE: Final[dict[str, Way]] = {
    "a cursor": lambda c: _drain(c.cursor("INSERT INTO students (name) VALUES ('kept') RETURNING id")),
    "a prepared statement": lambda c: _insert_prepared(c),
    "many rows": lambda c: c.fetchmany("INSERT INTO students (name) VALUES ($1) RETURNING id", [("kept",)]),
    "a bulk load": lambda c: c.copy_records_to_table("students", records=[("kept",)], columns=["name"]),
}


async def _drain(cursor: Any) -> None:
    async for _ in cursor:
        pass


async def _insert_prepared(conn: Any) -> None:
    await (await conn.prepare("INSERT INTO students (name) VALUES ('kept')")).fetch()


@pytest.mark.parametrize("before", WORK_BEFORE)
async def test_a_statement_that_fails_by_a_schema_change_is_not_sent_again_once_the_scope_has_worked(
    fresh: Product, before: str
) -> None:
    """Sent again, it would run in a scope that is opened anew, and what went before would be lost in silence."""
    async with fresh.open(pool={"max": 1}) as router, fresh.admin() as admin:
        [tenant] = await fresh.signed_up(router)
        await admin.execute("CREATE TABLE public.notes (n int); GRANT SELECT ON notes TO product_app")
        assert await router.fetch(tenant, "SELECT * FROM notes") == []
        failed = False
        try:
            async with router.tenant(tenant) as conn:
                await WORK_BEFORE[before](conn)
                await admin.execute("ALTER TABLE notes ADD COLUMN m int")
                await conn.fetch("SELECT * FROM notes")
        except asyncpg.PostgresError:
            failed = True
        rows = await router.fetchval(tenant, "SELECT count(*) FROM students WHERE name = 'kept'")
        assert rows == (0 if failed else 1), "committed as a whole, or told that it is not"
