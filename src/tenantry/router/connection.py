"""What the application holds during a scope: an asyncpg connection that ends with the scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NoReturn, cast

import asyncpg
from asyncpg.connection import _ConnectionProxy  # makes isinstance(conn, asyncpg.Connection) true

from tenantry.router import driver
from tenantry.router.bulk_load import load
from tenantry.router.driver import Connection
from tenantry.router.origin import Origin

_NOT_HERE = {
    "add_listener": "LISTEN is not bound to a tenant, and would not live longer than the scope",
    "remove_listener": "LISTEN is not bound to a tenant, and would not live longer than the scope",
    "add_log_listener": "it would stay on the connection for the next tenant",
    "add_termination_listener": "it would stay on the connection for the next tenant",
    "add_query_logger": "it would see the next tenant's statements",
    "query_logger": "it would see the next tenant's statements",
    "set_type_codec": "it would stay for the next tenant; pass on_connect= to Router.open",
    "set_builtin_type_codec": "it would stay for the next tenant; pass on_connect= to Router.open",
    "reset_type_codec": "it would stay for the next tenant; pass on_connect= to Router.open",
    "close": "leave the scope instead",
    "reset": "leave the scope instead",
}


#: What may be sent again: its arguments are as they were.
_REPEATABLE = frozenset({"execute", "prepare"})

#: Decides what a failed statement means. Takes the error, whether the statement was prepared before the scope, and
#: whether it is the scope's first; returns whether the scope is open anew, and the statement is to be sent again.
Heal = Callable[[Exception, bool, bool], Awaitable[bool]]


class ScopedConnection(_ConnectionProxy):
    """An `asyncpg.Connection` for the length of one scope.

    All of asyncpg's methods that make sense inside a transaction work as documented there;
    `transaction()` makes a savepoint. After the scope it refuses everything, and so do the statements,
    cursors and transactions made through it.
    """

    # Mutable state: _con (None once the scope is over), busy and statements (what the meter gets, once it is
    # over), _prepared (how many statements asyncpg had on the server when the scope was opened).

    __slots__ = ("_con", "_heal", "_origin", "_prepared", "busy", "statements")

    def __init__(self, connection: Connection, origin: Origin, heal: Heal) -> None:
        """Args:
        heal: told of a failed statement; see `Heal`.
        """
        self._con: Connection | None = connection
        self._origin = origin
        self._heal = heal
        self._prepared = driver.statements(connection, pooled=False)
        self.busy = 0.0
        self.statements = 0

    async def _healed(self, connection: Connection, error: BaseException, calls: int) -> bool:
        """A statement failed: is it worth sending again? Only the first one of a scope ever is.

        Args:
            calls: how often the server had run something of the scope, by whatever method, before it was sent.
        """
        if connection.is_closed() or not isinstance(error, Exception):
            return False
        cached = driver.keeps_statements(connection) and (
            driver.statements(connection, pooled=False) == self._prepared  # none was prepared since
        )
        return await self._heal(error, cached, calls == 0)

    def _live(self) -> Connection:
        self._origin.check()
        if self._con is None:
            raise asyncpg.InterfaceError("this scope is over: ask the router for a new one")
        return self._con

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[Any]:
        """As `asyncpg.Connection.fetch`."""
        connection = self._live()
        calls = driver.calls(connection)
        try:
            return cast(list[Any], await connection.fetch(query, *args, **options))
        except BaseException as error:
            if not await self._healed(connection, error, calls):
                raise
            return cast(list[Any], await connection.fetch(query, *args, **options))

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """As `asyncpg.Connection.fetchrow`."""
        connection = self._live()
        calls = driver.calls(connection)
        try:
            return await connection.fetchrow(query, *args, **options)
        except BaseException as error:
            if not await self._healed(connection, error, calls):
                raise
            return await connection.fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        """As `asyncpg.Connection.fetchval`."""
        connection = self._live()
        calls = driver.calls(connection)
        try:
            return await connection.fetchval(query, *args, **options)
        except BaseException as error:
            if not await self._healed(connection, error, calls):
                raise
            return await connection.fetchval(query, *args, **options)

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """As `asyncpg.Connection.execute`."""
        return str(await self._run("execute", query, *args, **options))

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], **options: Any) -> None:
        """As `asyncpg.Connection.executemany`."""
        await self._run("executemany", command, args, **options)

    async def copy_from_query(self, query: str, *args: Any, **options: Any) -> str:
        """As `asyncpg.Connection.copy_from_query`."""
        return str(await self._run("copy_from_query", query, *args, **options))

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        columns: Sequence[str] | None = None,
        schema_name: str | None = None,
        **options: Any,
    ) -> str:
        """As asyncpg's, under row-level security too: staged and then inserted, see `bulk_load`."""
        return await load(
            self._run, "copy_records_to_table", table_name, columns=columns, schema_name=schema_name, **options
        )

    async def copy_to_table(
        self,
        table_name: str,
        *,
        columns: Sequence[str] | None = None,
        schema_name: str | None = None,
        **options: Any,
    ) -> str:
        """As asyncpg's, under row-level security too: staged and then inserted, see `bulk_load`."""
        return await load(
            self._run, "copy_to_table", table_name, columns=columns, schema_name=schema_name, **options
        )

    async def _run(self, method: str, *args: Any, **options: Any) -> Any:
        connection = self._live()
        calls = driver.calls(connection)
        try:
            return await getattr(connection, method)(*args, **options)
        except BaseException as error:
            simple = method == "execute" and not args[1:]  # may hold several statements, and some have run
            if simple or not await self._healed(connection, error, calls) or method not in _REPEATABLE:
                raise
            return await getattr(connection, method)(*args, **options)

    async def prepare(self, query: str, **options: Any) -> ScopedStatement:
        """As `asyncpg.Connection.prepare`; the statement ends with the scope."""
        return ScopedStatement(self, await self._run("prepare", query, **options))

    def terminate(self) -> None:
        """As `asyncpg.Connection.terminate`: cuts the connection, and the scope with it."""
        self._live().terminate()

    def __getattr__(self, name: str) -> Any:
        if name in _NOT_HERE:
            return _refusal(name)
        if name.startswith("_"):
            raise AttributeError(name)
        # What is left may run statements that this class does not see: cursors, transactions, COPY.
        attribute = getattr(self._live(), name)
        if not callable(attribute):
            return attribute

        def method(*args: Any, **options: Any) -> Any:
            return getattr(self._live(), name)(*args, **options)  # asked again: it may have been kept

        return method

    def detach(self) -> None:
        """The scope is over. Idempotent."""
        if self._con is not None:
            self.busy, self.statements = driver.metered(self._con)
        self._con = None

    def __repr__(self) -> str:
        if self._con is None:
            return f"<ScopedConnection over, {self.statements} statements, {self.busy:.6f} s>"
        busy, statements = driver.metered(self._con)
        return f"<ScopedConnection backend {self._con.get_server_pid()}, {statements} statements, {busy:.6f} s>"


class ScopedStatement:
    """An `asyncpg` prepared statement that ends with the scope."""

    def __init__(self, scope: ScopedConnection, statement: Any) -> None:
        self._scope = scope
        self._statement = statement

    def __getattr__(self, name: str) -> Any:
        self._scope._live()
        return getattr(self._statement, name)


def _refusal(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise asyncpg.InterfaceError(f"{name}() is not available inside a scope: {_NOT_HERE[name]}")

    return refuse
