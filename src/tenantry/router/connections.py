"""A pool's connections: which are idle, which are in somebody's hand, how one is cleaned, and how one ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Protocol

from tenantry.events import ConnectionClosed, Events
from tenantry.router import disconnect, driver, scope
from tenantry.router.answers import Unit
from tenantry.router.driver import Connection
from tenantry.router.waiter import PooledConnection

#: Seconds that bringing a connection of unknown state back to a clean one may take; then it is cut.
CLEANUP: Final = 5.0

#: A connection of which nothing was heard for so many seconds may be dead, and nobody has told us: firewalls
#: forget quiet connections. So its next scope is opened alone, and has `ANSWER` seconds for it before another
#: connection is tried.
QUIET: Final = 5.0
ANSWER: Final = 2.0

logger = logging.getLogger("tenantry")


class ConnectionsOwner(Protocol):
    """The pool, as its connections see it."""

    def take_back(self, pooled: PooledConnection) -> None:
        """It is nobody's, and clean unless it is marked dirty."""

    def on_closed(self) -> None:
        """One that was open is closed now."""


class Connections:
    """Each connection is at every moment in exactly one hand: idle, a caller's, or a cleanup task's.

    Except for `clean` and `close`, nothing here awaits.
    """

    # Mutable state, beside `idle`, `busy`, and `closing`: _schema (how many schema changes were learned of;
    # _learned_at: when the last one), _tasks (cleanup in the background), and _vacant (closing, and none is busy
    # any more).

    def __init__(self, database: str, *, owner: ConnectionsOwner, events: Events) -> None:
        self._database = database
        self._owner = owner
        self._events = events
        self.idle: deque[PooledConnection] = deque()
        """Clean ones, oldest use first."""
        self.busy: set[PooledConnection] = set()
        self.closing = False
        self._schema = 0
        self._learned_at = float("-inf")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._vacant = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def add(self, connection: Connection, proof_context: scope.ProofContext) -> PooledConnection:
        """A new one, in the caller's hand."""
        return PooledConnection(connection, proof_context, self._loop.time(), self._schema)

    def take(self, now: float) -> PooledConnection:
        """The idle one that was used last. There must be one."""
        pooled = self.idle.pop()
        pooled.since = now
        self.busy.add(pooled)
        return pooled

    def rest(self, pooled: PooledConnection) -> None:
        """It is idle from now on."""
        self.busy.discard(pooled)
        self.idle.append(pooled)

    def unfit(self, pooled: PooledConnection) -> str | None:
        """Why it is to be dropped instead of used again."""
        if pooled.connection.is_closed():
            return "broken"
        if self.closing:
            return "closing"
        return "read-only" if pooled.read_only else None

    def outdated(self, pooled: PooledConnection) -> bool:
        """It has to forget what it keeps, and is cleaned before it is used again."""
        return pooled.schema != self._schema

    # -- back to a clean state ---------------------------------------------------------------------

    async def clean(self, pooled: PooledConnection, before: Sequence[Unit] = ()) -> None:
        """Bring a connection of any state back, or cut it. Bounded.

        Args:
            before: the end of the scope before, whose caller waits for it however long it takes.
        """
        self.busy.add(pooled)
        for unit in before:
            await unit.answered()
        try:
            async with asyncio.timeout(CLEANUP):
                await disconnect.wait_cancelled(pooled.connection)
                driver.ensure_quiet(pooled.connection)
                schema = self._schema
                if outdated := pooled.schema != schema:
                    driver.forget(pooled.connection)
                (cleaned,) = driver.send(pooled.connection, scope.reset(forget=outdated))
                if (error := (await cleaned.answered()).error) is not None:
                    raise error
                pooled.schema = schema
        except BaseException as error:
            self.drop(pooled, "broken")
            if not isinstance(error, Exception):
                raise
            return
        pooled.dirty = False
        self._owner.take_back(pooled)

    def clean_later(self, pooled: PooledConnection, before: Sequence[Unit] = ()) -> None:
        """`clean` in the background."""
        self.busy.add(pooled)
        self._spawn(self.clean(pooled, before))

    def learned(self, pooled: PooledConnection) -> None:
        """A statement has failed because the schema had changed: every connection forgets what it keeps.

        At most once a second, so that an application whose mistakes look the same does not empty all caches
        for ever.
        """
        now = self._loop.time()
        pooled.outdated()
        if now < self._learned_at + 1.0:
            return
        self._learned_at = now
        self._schema += 1
        idle, self.idle = list(self.idle), deque()
        for other in idle:
            self.clean_later(other)
        logger.info(
            "database %s: its schema has changed; prepared statements and types are read anew", self._database
        )

    # -- the end -----------------------------------------------------------------------------------

    def drop(self, pooled: PooledConnection, reason: str) -> None:
        """Part with a connection and with what runs on it, once; the owner is told when it is gone."""
        if pooled.dropped:
            return
        pooled.dropped = True
        driver.give_up(pooled.connection)
        self.busy.discard(pooled)
        if self.closing and not self.busy:
            self._vacant.set()
        self._events.emit(ConnectionClosed(self._database, reason))
        if pooled.connection.is_closed():
            self._owner.on_closed()
        else:
            end_session = reason == "leftovers" and pooled.proof_context.pooled
            self._spawn(self._close_one(pooled.connection, end_session=end_session))

    async def _close_one(self, connection: Connection, *, end_session: bool) -> None:
        """Close it; `end_session`: at the server too, where a pooler would give the process to somebody else."""
        try:
            if end_session:
                (ended,) = driver.send(connection, scope.END_SESSION)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLEANUP):
                        await ended.answered()
            await disconnect.cancel_and_close(connection)
        finally:
            self._owner.on_closed()

    def drop_unless(self, pooled: PooledConnection, end: Unit, seconds: float) -> None:
        """Part with a connection unless the answer comes in time."""

        async def watching() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await end.answered()
            if end.answer is None:
                self.drop(pooled, "broken")

        self._spawn(watching())

    def drop_quiet(self, pooled: PooledConnection, quiet: float) -> None:
        """A connection that was quiet for so many seconds is dead; those that were quiet for as long may be."""
        self.drop(pooled, "broken")
        heard = self._loop.time() - quiet
        for other in [one for one in self.idle if one.heard <= heard]:
            self.idle.remove(other)
            self.drop(other, "broken")

    def lost_writability(self) -> None:
        """The server has become, or always was, read-only: no connection to it is used again."""
        for pooled in (*self.idle, *self.busy):
            pooled.read_only = True
        while self.idle:
            self.drop(self.idle.pop(), "read-only")

    def drop_oldest(self, reason: str) -> bool:
        """Part with the idle one that was used least recently. False: none is idle."""
        if not self.idle:
            return False
        self.drop(self.idle.popleft(), reason)
        return True

    async def close(self, seconds: float) -> int:
        """Close them all, once `closing` is set: those in a scope when that has ended, within `seconds`.

        Returns:
            How many were cut.
        """
        while self.drop_oldest("closing"):
            pass
        if self.busy:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._vacant.wait()
        cut = len(self.busy)
        for pooled in list(self.busy):
            self.drop(pooled, "closing")
        await driver.wait_closed(self._tasks, CLEANUP)
        return cut

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a cleanup that failed has cut its connection already
