"""What the application holds during a scope: an asyncpg connection that ends with the scope."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any, NoReturn

import asyncpg
from asyncpg.connection import _ConnectionProxy  # makes isinstance(conn, asyncpg.Connection) true

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


# SQL's own PREPARE lives as long as the connection, and DEALLOCATE ALL would take asyncpg's statements too:
# a connection on which it was used is not used again. (`PREPARE TRANSACTION` ends the scope anyway.)
_PREPARE = re.compile(r"\bprepare\b", re.IGNORECASE)


class ScopedConnection(_ConnectionProxy):
    """An `asyncpg.Connection` for the length of one scope.

    All of asyncpg's methods that make sense inside a transaction work as documented there;
    `transaction()` makes a savepoint. After the scope it refuses everything, and so do the statements,
    cursors and transactions made through it.
    """

    # Mutable state: _con (None once the scope is over), busy and statements (what the meter gets), doubtful
    # (a statement may have failed), tainted (the connection must not be used again).

    __slots__ = ("_con", "_origin", "busy", "doubtful", "statements", "tainted")

    def __init__(self, connection: Connection, origin: Origin) -> None:
        self._con: Connection | None = connection
        self._origin = origin
        self.busy = 0.0
        self.statements = 0
        self.doubtful = False
        self.tainted = False

    def _live(self) -> Connection:
        self._origin.check()
        if self._con is None:
            raise asyncpg.InterfaceError("this scope is over: ask the router for a new one")
        return self._con

    def _look_for_prepare(self, query: object) -> None:
        if isinstance(query, str) and "prepare" in query.lower() and _PREPARE.search(query) is not None:
            self.tainted = True

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[Any]:
        """As `asyncpg.Connection.fetch`."""
        connection = self._live()
        self._look_for_prepare(query)
        started = perf_counter()
        try:
            rows: list[Any] = await connection.fetch(query, *args, **options)
            return rows
        except BaseException:
            self.doubtful = True
            raise
        finally:
            self.busy += perf_counter() - started
            self.statements += 1

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """As `asyncpg.Connection.fetchrow`."""
        connection = self._live()
        self._look_for_prepare(query)
        started = perf_counter()
        try:
            return await connection.fetchrow(query, *args, **options)
        except BaseException:
            self.doubtful = True
            raise
        finally:
            self.busy += perf_counter() - started
            self.statements += 1

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        """As `asyncpg.Connection.fetchval`."""
        connection = self._live()
        self._look_for_prepare(query)
        started = perf_counter()
        try:
            return await connection.fetchval(query, *args, **options)
        except BaseException:
            self.doubtful = True
            raise
        finally:
            self.busy += perf_counter() - started
            self.statements += 1

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """As `asyncpg.Connection.execute`."""
        self._look_for_prepare(query)
        return str(await self._timed("execute", query, *args, **options))

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], **options: Any) -> None:
        """As `asyncpg.Connection.executemany`."""
        self._look_for_prepare(command)
        await self._timed("executemany", command, args, **options)

    async def copy_from_query(self, query: str, *args: Any, **options: Any) -> str:
        """As `asyncpg.Connection.copy_from_query`."""
        return str(await self._timed("copy_from_query", query, *args, **options))

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
            self._timed, "copy_records_to_table", table_name, columns=columns, schema_name=schema_name, **options
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
            self._timed, "copy_to_table", table_name, columns=columns, schema_name=schema_name, **options
        )

    async def _timed(self, method: str, *args: Any, **options: Any) -> Any:
        connection = self._live()
        started = perf_counter()
        try:
            return await getattr(connection, method)(*args, **options)
        except BaseException:
            self.doubtful = True
            raise
        finally:
            self.busy += perf_counter() - started
            self.statements += 1

    async def prepare(self, query: str, **options: Any) -> ScopedStatement:
        """As `asyncpg.Connection.prepare`; the statement ends with the scope."""
        self._look_for_prepare(query)
        return ScopedStatement(self, await self._timed("prepare", query, **options))

    def terminate(self) -> None:
        """As `asyncpg.Connection.terminate`: cuts the connection, and the scope with it."""
        self._live().terminate()

    def __getattr__(self, name: str) -> Any:
        if name in _NOT_HERE:
            return _refusal(name)
        if name.startswith("_"):
            raise AttributeError(name)
        # What is left may run statements that this class does not see: cursors, transactions, COPY.
        self.doubtful = True
        attribute = getattr(self._live(), name)
        if not callable(attribute):
            return attribute

        def method(*args: Any, **options: Any) -> Any:
            self._look_for_prepare(args[0] if args else options.get("query"))
            return getattr(self._live(), name)(*args, **options)  # asked again: it may have been kept

        return method

    def detach(self) -> None:
        """The scope is over. Idempotent."""
        self._con = None

    def __repr__(self) -> str:
        state = "over" if self._con is None else f"backend {self._con.get_server_pid()}"
        return f"<ScopedConnection {state}, {self.statements} statements, {self.busy:.6f} s>"


class ScopedStatement:
    """An `asyncpg` prepared statement whose running time is metered."""

    def __init__(self, scope: ScopedConnection, statement: Any) -> None:
        self._scope = scope
        self._statement = statement

    def __getattr__(self, name: str) -> Any:
        self._scope._live()
        self._scope.doubtful = True
        attribute = getattr(self._statement, name)
        if name not in {"fetch", "fetchrow", "fetchval", "fetchmany", "executemany", "explain"}:
            return attribute

        async def timed(*args: Any, **options: Any) -> Any:
            started = perf_counter()
            try:
                return await attribute(*args, **options)
            finally:
                self._scope.busy += perf_counter() - started
                self._scope.statements += 1

        return timed


def _refusal(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise asyncpg.InterfaceError(f"{name}() is not available inside a scope: {_NOT_HERE[name]}")

    return refuse
