"""What the application holds during a scope: an asyncpg connection that ends with the scope."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

import asyncpg
from asyncpg.connection import _ConnectionProxy  # makes isinstance(conn, asyncpg.Connection) true

from tenantry.router import driver
from tenantry.router.answers import Answer, lost_answer
from tenantry.router.bulk_load import load
from tenantry.router.driver import Connection
from tenantry.router.openings import NotOpened
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


class Scope(Protocol):
    """The checkout, as its connection sees it."""

    async def heal(self, error: Exception, cached: bool, first: bool) -> bool:
        """A statement has failed. Returns whether the scope is open anew, and the statement is to be sent again.

        Args:
            cached: the statement was prepared before the scope.
            first: it is the scope's first.
        """

    async def reopen(self, refusal: Answer) -> Connection:
        """The scope's opening was refused: open it wherever the tenant lives now.

        Raises: as entering a scope.
        """


if TYPE_CHECKING:
    #: For type checkers a scope's connection is what it behaves as: functions that take asyncpg's take it.
    _AsyncpgConnection = asyncpg.Connection[asyncpg.Record]
else:
    _AsyncpgConnection = _ConnectionProxy


class ScopedConnection(_AsyncpgConnection):
    """An `asyncpg.Connection` for the length of one scope.

    All of asyncpg's methods that make sense inside a transaction work as documented there;
    `transaction()` makes a savepoint. After the scope it refuses everything, and so do the statements,
    cursors and transactions made through it.

    The scope is opened together with its first statement. Where the database refuses that, nothing has run: the
    scope is opened where the tenant lives now, and the statement is sent there. So the first statement may raise
    what entering a scope raises: TenantMoving, TenantSuspended, TenantBusy, DatabaseUnavailable.
    """

    # Mutable state: _con (None once the scope is over, or while it is opened elsewhere), busy and statements (what
    # the meter gets, once it is over), _prepared (how many statements asyncpg had on the server when the scope was
    # opened), _why (why there is no connection).

    __slots__ = ("_con", "_origin", "_prepared", "_scope", "_why", "busy", "statements")

    def __init__(self, connection: Connection, origin: Origin, scope: Scope) -> None:
        self._con: Connection | None = connection
        self._origin = origin
        self._scope = scope
        self._prepared = driver.statements(connection, pooled=False)
        self._why = "this scope is over: ask the router for a new one"
        self.busy = 0.0
        self.statements = 0

    async def _healed(self, connection: Connection, error: BaseException, calls: int) -> bool:
        """A statement failed: is it worth sending again? Only the first one of a scope ever is.

        Args:
            calls: how often the server had run something of the scope, by whatever method, before it was sent.
        """
        if isinstance(error, asyncpg.InterfaceError) and connection.is_closed() and driver.pending(connection):
            error = NotOpened(lost_answer(error))  # it has ended since the scope was entered
        if isinstance(error, NotOpened):
            await self._reopen(error, calls == 0)
            return True
        if connection.is_closed() or not isinstance(error, Exception):
            return False
        cached = driver.keeps_statements(connection) and (
            driver.statements(connection, pooled=False) == self._prepared  # none was prepared since
        )
        return await self._scope.heal(error, cached, calls == 0)

    async def _reopen(self, refused: NotOpened, first: bool) -> None:
        self._live()  # else the scope is over, or another statement is opening it
        if not first:
            raise asyncpg.InFailedSQLTransactionError(
                "the scope's first statement was cut short, and its transaction with it"
            ) from refused
        self._con, self._why = None, "cannot perform operation: the scope is being opened by another one"
        try:
            self._con = await self._scope.reopen(refused.answer)
        except BaseException:
            self._why = "this scope could not be opened: ask the router for a new one"
            raise
        self._prepared = driver.statements(self._con, pooled=False)

    def _live(self) -> Connection:
        self._origin.check()
        if self._con is None:
            raise asyncpg.InterfaceError(self._why)
        return self._con

    async def opened(self) -> Connection:
        """Open the scope now, if it is not open. Raises as entering a scope.

        For work that can't travel with the opening: the simple protocol, cursors, COPY, savepoints.
        """
        connection = self._live()
        while driver.pending(connection):
            try:
                await driver.ensure_open(connection)
            except NotOpened as refused:
                await self._reopen(refused, driver.calls(connection) == 0)
            connection = self._live()
        return connection

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[Any]:
        """As `asyncpg.Connection.fetch`."""
        connection = self._live()
        calls = driver.calls(connection)
        try:
            return cast(list[Any], await connection.fetch(query, *args, **options))
        except BaseException as error:
            if not await self._healed(connection, error, calls):
                raise
        return cast(list[Any], await self._live().fetch(query, *args, **options))

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """As `asyncpg.Connection.fetchrow`."""
        connection = self._live()
        calls = driver.calls(connection)
        try:
            return await connection.fetchrow(query, *args, **options)
        except BaseException as error:
            if not await self._healed(connection, error, calls):
                raise
        return await self._live().fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        """As `asyncpg.Connection.fetchval`."""
        connection = self._live()
        calls = driver.calls(connection)
        try:
            return await connection.fetchval(query, *args, **options)
        except BaseException as error:
            if not await self._healed(connection, error, calls):
                raise
        return await self._live().fetchval(query, *args, **options)

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
        columns: Iterable[str] | None = None,
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
        columns: Iterable[str] | None = None,
        schema_name: str | None = None,
        **options: Any,
    ) -> str:
        """As asyncpg's, under row-level security too: staged and then inserted, see `bulk_load`."""
        return await load(
            self._run, "copy_to_table", table_name, columns=columns, schema_name=schema_name, **options
        )

    async def _run(self, method: str, *args: Any, **options: Any) -> Any:
        simple = method == "execute" and not args[1:]  # may hold several statements, and some have run
        connection = self._live()
        if driver.pending(connection) and (simple or method != "execute"):
            connection = await self.opened()
        calls = driver.calls(connection)
        try:
            return await getattr(connection, method)(*args, **options)
        except BaseException as error:
            if simple or not await self._healed(connection, error, calls) or method not in _REPEATABLE:
                raise
        return await getattr(self._live(), method)(*args, **options)

    async def prepare(self, query: str, **options: Any) -> Any:
        """As `asyncpg.Connection.prepare`; the statement, a `ScopedStatement`, ends with the scope."""
        return ScopedStatement(self, await self._run("prepare", query, **options))

    def transaction(self, **options: Any) -> Any:
        """As `asyncpg.Connection.transaction`: a savepoint."""
        connection = self._live()
        if driver.pending(connection):
            return OpeningTransaction(self, connection.transaction(**options), options)
        return connection.transaction(**options)

    def cursor(self, query: str, *args: Any, **options: Any) -> Any:
        """As `asyncpg.Connection.cursor`."""
        connection = self._live()
        if driver.pending(connection):
            return OpeningCursor(self, query, args, options)
        return connection.cursor(query, *args, **options)

    def is_in_transaction(self) -> bool:
        """As `asyncpg.Connection.is_in_transaction`: in a scope, until its application has ended it by hand."""
        connection = self._live()
        return driver.pending(connection) or connection.is_in_transaction()

    def terminate(self) -> None:
        """As `asyncpg.Connection.terminate`: cuts the connection, and the scope with it."""
        self._live().terminate()

    def _asyncpgs(self, name: str) -> Any:
        """What asyncpg's connection has under a name that this class does not define."""
        if name in _NOT_HERE:
            return _refusal(name)
        if name.startswith("_"):
            raise AttributeError(name)
        # What is left may run statements that this class does not see, as copy_from_table.
        attribute = getattr(self._live(), name)
        if not callable(attribute):
            return attribute
        if iscoroutinefunction(attribute):

            async def asynchronous(*args: Any, **options: Any) -> Any:
                return await getattr(await self.opened(), name)(*args, **options)

            return asynchronous

        def method(*args: Any, **options: Any) -> Any:
            return getattr(self._live(), name)(*args, **options)  # asked again: it may have been kept

        return method

    if not TYPE_CHECKING:  # they know asyncpg's names, and shall find those that are none
        __getattr__ = _asyncpgs

    def detach(self) -> None:
        """The scope is over. Idempotent."""
        if self._con is not None:
            self.busy, self.statements = driver.metered(self._con)
        self._con, self._why = None, "this scope is over: ask the router for a new one"

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


class OpeningTransaction:
    """asyncpg's transaction object, of a scope that it opens when it is begun."""

    # Mutable state: _transaction (made again where the scope is opened on another connection).

    def __init__(self, scope: ScopedConnection, transaction: Any, options: dict[str, Any]) -> None:
        self._scope = scope
        self._options = options
        self._transaction = transaction  # made at once, so that wrong options are told at once

    async def start(self) -> None:
        """As asyncpg's."""
        self._transaction = (await self._scope.opened()).transaction(**self._options)
        await self._transaction.start()

    async def __aenter__(self) -> None:
        self._transaction = (await self._scope.opened()).transaction(**self._options)
        await self._transaction.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._transaction.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)


class OpeningCursor:
    """asyncpg's cursor, of a scope that it opens when it is first used."""

    # Mutable state: _rows (asyncpg's iterator, once there is one).

    def __init__(
        self, scope: ScopedConnection, query: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        self._scope = scope
        self._query = query
        self._args = args
        self._options = options
        self._rows: Any = None

    async def _opened(self) -> Any:
        return (await self._scope.opened()).cursor(self._query, *self._args, **self._options)

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        if self._rows is None:
            self._rows = (await self._opened()).__aiter__()
        return await self._rows.__anext__()

    def __await__(self) -> Any:
        async def cursor() -> Any:
            return await (await self._opened())

        return cursor().__await__()


def _refusal(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise asyncpg.InterfaceError(f"{name}() is not available inside a scope: {_NOT_HERE[name]}")

    return refuse
