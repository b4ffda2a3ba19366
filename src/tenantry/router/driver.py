"""The one place that knows asyncpg's insides.

asyncpg's pool hands a connection out with what the scope protocol needs from its private side: references
that outlive a scope must die with it, and `connection.transaction()` inside a scope must make a savepoint
although the scope began its transaction itself. asyncpg offers neither to anybody but its own pool, so the
few private names that do it stand here, each with its reason, under tests that fail when asyncpg changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import asyncpg
from asyncpg import connect_utils

from tenantry.router import surroundings, wire
from tenantry.router.answers import Unit
from tenantry.router.messages import OpeningMessages
from tenantry.router.origin import Origin
from tenantry.runtime.cancel_requests import let_end
from tenantry.runtime.connection_errors import DATABASE_ERRORS, said_by_server
from tenantry.runtime.fork_safety import ForkSafeConnection

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection
OnConnect = Callable[[Connection], Awaitable[None]]


#: What a statement that was prepared before the schema changed may fail with: a type, function, column or table is
#: gone or another one, or a parameter's type no longer fits. PostgreSQL documentation, "PostgreSQL Error Codes".
_OUTDATED = frozenset({"42703", "42704", "42883", "42804", "42P01", "42846"})


class ScopeConnection(ForkSafeConnection):
    """For `connection_class=` of `asyncpg.connect`."""

    __slots__ = ()

    async def _cancel(self, *args: Any, **options: Any) -> None:
        """asyncpg's own name: sends a cancel request, which must not reach the COMMIT of the scope before."""
        for unit in predecessors(self):
            await unit.answered()
        await super()._cancel(*args, **options)  # type: ignore[misc]  # the stubs leave private names out


class TopTransaction:
    """Stands for the scope's own transaction where asyncpg looks for the outermost one.

    `Connection.transaction()` makes a savepoint when `_top_xact` is set, and compares isolation levels.
    """

    __slots__ = ("_isolation", "_managed")

    def __init__(self, isolation: str | None) -> None:
        self._isolation = isolation
        self._managed = True


_TOP = {
    level: TopTransaction(level)
    for level in (None, "read_committed", "read_uncommitted", "repeatable_read", "serializable")
}


async def connect(
    dsn: str,
    *,
    timeout: float,
    application_name: str,
    settings: Mapping[str, str],
    cached_statements: bool,
    origin: Origin | None = None,
) -> Connection:
    """Open a connection that can be used at `origin` only (None: here). `timeout` in seconds covers all of it."""
    options: dict[str, Any] = {} if cached_statements else {"statement_cache_size": 0}
    connection = cast(
        Connection,
        await asyncpg.connect(
            dsn,
            timeout=timeout,
            connection_class=ScopeConnection,
            server_settings={"application_name": application_name, **settings},
            **options,
        ),
    )
    wire.adopt(connection, origin or Origin())
    return connection


def expect(connection: Connection, usual: str) -> None:
    """From now on, statements that are prepared in other surroundings than `usual` are noticed: see `misread`."""
    connection._protocol.question = surroundings.question(usual)  # type: ignore[attr-defined]


def misread(connection: Connection) -> bool:
    """asyncpg keeps a statement that, for all we know, means something else in a later scope."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    return protocol is not None and bool(protocol.misread)


def begin_scope(connection: Connection, isolation: str | None) -> None:
    """Let `connection.transaction()` know that a transaction is open, and begin to meter."""
    connection._top_xact = _TOP[isolation]  # type: ignore[attr-defined]
    connection._protocol.begin()  # type: ignore[attr-defined]


def open_with(connection: Connection, opening: OpeningMessages, deadline: float, *, prompt: bool = False) -> None:
    """Keep the opening of the scope that begins: it travels with the scope's first statement.

    Args:
        deadline: loop time.
        prompt: the statement is given up when the scope is not open by then. Costs the server an answer more.
    """
    connection._protocol.keep(opening, deadline, prompt=prompt)  # type: ignore[attr-defined]


def hand_over(
    connection: Connection, ending: bytes, opening: OpeningMessages, deadline: float, *, prompt: bool
) -> Unit:
    """End a scope, and begin the next one. See `ScopeProtocol.hand_over`; after `ensure_quiet`."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    end: Unit = protocol.hand_over(ending, opening, deadline, prompt=prompt)
    return end


def be_late(connection: Connection) -> None:
    """The deadline of the present scope has passed, and the scope before has not ended."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    if protocol is not None:
        protocol.be_late()


def end_behind(connection: Connection, query: str, ending: bytes) -> None:
    """Send the ending, a unit, right behind this query, the scope's only one."""
    connection._protocol.ending = (query, ending)  # type: ignore[attr-defined]


def give_up(connection: Connection) -> None:
    """The connection is about to be closed: whose scope is not open on it yet is told so."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    if protocol is not None:
        protocol.given_up = True


def ended(connection: Connection) -> wire.Ending | None:
    """The ending that was sent behind the scope's first statement."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    return None if protocol is None else protocol.ended


def untouched(connection: Connection) -> bool:
    """Nothing of the present scope was sent, its opening included."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    return protocol is not None and protocol.opening is not None


def unopened(connection: Connection) -> bool:
    """The scope's opening was not sent, or nothing was sent behind it."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    if protocol is None:
        return False
    travelling = protocol.travelling
    return protocol.opening is not None or (travelling is not None and not travelling.synced)


def refused(connection: Connection) -> bool:
    """The scope's opening was refused, and somebody else has got the error."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    return protocol is not None and protocol.travelling is not None and protocol.travelling.refusal is not None


def pending(connection: Connection) -> bool:
    """The scope is not known to be open yet: its next statement may be told that it is not."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    return protocol is not None and (protocol.opening is not None or protocol.travelling is not None)


async def ensure_open(connection: Connection) -> None:
    """Open the scope, if it is not open. Raises NotOpened."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    if protocol is not None:
        await protocol.open()


def calls(connection: Connection) -> int:
    """How often the scope has made the server run something, by whatever method."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    return 1 if protocol is None else int(protocol.calls)


def metered(connection: Connection) -> tuple[float, int]:
    """The scope's use so far: seconds that its statements ran, and how many calls of the server they were."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    return (0.0, 0) if protocol is None else (protocol.busy_until(perf_counter()), protocol.calls)


def end_scope(connection: Connection) -> None:
    """Make every statement, cursor and transaction object of the scope unusable from now on.

    asyncpg's own pool counts releases, and its objects remember the count they were made under.
    """
    connection._top_xact = None  # type: ignore[attr-defined]
    connection._pool_release_ctr += 1  # type: ignore[attr-defined]


def intact(connection: Connection, tag: str) -> bool:
    """The connection lives, a transaction is open or failed, none seems to have ended, and it is called `tag`."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    return (
        protocol is not None
        and protocol.is_connected()
        and protocol.is_in_transaction()
        and not protocol.broken_off
        and getattr(protocol.get_settings(), "application_name", None) == tag
    )


def is_busy(error: BaseException) -> bool:
    """asyncpg refused: a statement was still running on the connection."""
    return isinstance(error, asyncpg.InterfaceError) and "another operation" in str(error)


def send(connection: Connection, data: bytes, units: int = 1) -> list[Unit]:
    """Send units of our own. See `ScopeProtocol.send`; after `ensure_quiet`."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    sent: list[Unit] = protocol.send(data, units)
    return sent


def keeps_statements(connection: Connection) -> bool:
    """asyncpg keeps prepared statements on the session; behind a pooler it does not."""
    return bool(connection._stmt_cache_enabled)  # type: ignore[attr-defined]


def awaits_answer(connection: Connection) -> bool:
    """A unit of ours has not been answered yet."""
    return bool(_units(connection))


async def answered(connection: Connection, seconds: float) -> None:
    """Wait until all units are answered, at most so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for unit in _units(connection):
                await unit.answered()


def predecessors(connection: Connection) -> list[Unit]:
    """The units that are not answered and belong to the scope before the present one."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    return protocol.before() if isinstance(protocol, wire.ScopeProtocol) else []


def _units(connection: Connection) -> list[Unit]:
    protocol = connection._protocol  # type: ignore[attr-defined]
    return [] if protocol is None else [one for one in protocol.filter.expected if type(one) is Unit]


def ensure_quiet(connection: Connection) -> None:
    """Make sure that no statement of asyncpg's is under way.

    Raises:
        asyncpg.InterfaceError: one is, or the connection is closed.
    """
    protocol = connection._protocol  # type: ignore[attr-defined]
    if protocol is None or protocol.is_closed() or protocol.said_goodbye:
        raise asyncpg.InterfaceError("connection is closed")
    if protocol.running or is_cancelling(connection):
        raise asyncpg.InterfaceError("cannot perform operation: another operation is in progress")


def statements(connection: Connection, pooled: bool) -> int:
    """How many named statements asyncpg has on the server; -1: nobody knows, or a pooler is in between."""
    counted: int | None = None if pooled else connection._protocol.statements  # type: ignore[attr-defined]
    return -1 if counted is None else counted


def is_outdated(error: BaseException, *, cached: bool) -> bool:
    """The session's view of the schema is older than the schema: a kept statement or a kept type no longer fits.

    Args:
        cached: the statement was prepared before. Only then may an error that bad SQL gives too mean that.
    """
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        return True
    if isinstance(error, asyncpg.InvalidSQLStatementNameError):  # somebody has deallocated it
        return "__asyncpg_" in str(error)
    state = getattr(error, "sqlstate", None)
    return cached and (state in _OUTDATED or (state == "XX000" and "cache lookup failed" in str(error)))


def is_unsuitable(error: BaseException) -> bool:
    """asyncpg finds that the arguments don't fit the statement's parameters, and has sent nothing."""
    return isinstance(error, asyncpg.DataError) and not said_by_server(error)


def forget(connection: Connection) -> None:
    """Forget every statement and type that asyncpg keeps. The server's side: `scope.Before.OUTDATED`, `reset`."""
    connection._stmt_cache.clear()  # type: ignore[attr-defined]
    connection._stmts_to_close.clear()  # type: ignore[attr-defined]
    protocol = connection._protocol  # type: ignore[attr-defined]
    protocol.get_settings().clear_type_cache()
    protocol.statements = 0


def is_standby(connection: Connection) -> bool:
    """The server reports itself a hot standby. (PostgreSQL tells changes unasked; a pooler may not.)"""
    return getattr(connection.get_settings(), "in_hot_standby", "off") == "on"


def is_cancelling(connection: Connection) -> bool:
    """A statement was cancelled, and the server has not answered yet."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    return protocol is not None and bool(protocol._is_cancelling())


async def cancellation(connection: Connection) -> None:
    """Wait until a cancelled statement's cancellation has reached the server and been answered."""
    protocol = connection._protocol  # type: ignore[attr-defined]
    if protocol is not None:
        await protocol._wait_for_cancellation(None)


async def cancel(connection: Connection) -> None:
    """Send a cancel request, as asyncpg does for a statement that is cancelled, and wait for its end.

    Who stops waiting does not stop the request: see `runtime.cancel_requests`.
    """
    protocol = connection._protocol  # type: ignore[attr-defined]
    if protocol is None:
        return
    request = asyncio.ensure_future(
        connect_utils._cancel(  # type: ignore[attr-defined]
            loop=connection._loop,  # type: ignore[attr-defined]
            addr=connection._addr,  # type: ignore[attr-defined]
            params=connection._params,  # type: ignore[attr-defined]
            backend_pid=protocol.backend_pid,
            backend_secret=protocol.backend_secret,
        )
    )
    let_end(request)
    await asyncio.shield(request)


async def close(connection: Connection, seconds: float = 2.0) -> None:
    """Cancel what runs on it, say goodbye, and wait until the server has gone; after `seconds`, cut it."""
    try:
        async with asyncio.timeout(seconds):  # asyncpg's own timeout does not cover the cancelling in all versions
            await connection.close()
    except DATABASE_ERRORS:
        connection.terminate()


def backoff(failures: int, dice: random.Random) -> float:
    """Seconds to leave a refusing database alone: doubling from 0.1 to 15, the upper half jittered."""
    whole: float = min(15.0, 0.1 * 2.0 ** min(failures - 1, 16))
    return whole / 2 + dice.random() * whole / 2


async def wait_closed(tasks: set[asyncio.Task[Any]], seconds: float) -> None:
    """Wait for background tasks, at most `seconds`; cancel those that are left."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=1)
