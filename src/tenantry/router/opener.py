"""Opens a pool's connections: one at a time, within the budget, and not at all for a while after a refusal."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from tenantry.errors import DatabaseUnavailable, TenantryError
from tenantry.events import ConnectionOpened, DatabaseDown, Events
from tenantry.router import driver
from tenantry.router.budget import Budget
from tenantry.router.driver import Connection
from tenantry.router.scope import ProofContext
from tenantry.runtime.shielded import stop

Dial = Callable[[], Awaitable[tuple[Connection, ProofContext]]]


class OpenerPool(Protocol):
    """The pool, as its opener sees it."""

    def wants_connection(self) -> bool:
        """Somebody waits who could be served by one more connection."""

    def opened(self, connection: Connection, proof_context: ProofContext) -> None:
        """Here is one more."""

    def on_connect_failed(self, error: TenantryError) -> None:
        """There is no connection at all, and none to be had for now: fail those who wait."""


class Opener:
    """The connections that a pool has, by number, and the way to more of them.

    A database that refuses is left alone for a growing, jittered while; its tenants are told at once.
    """

    # Mutable state: open (connections opened or being opened, with a budget permit each), _task, and the
    # back-off: _failures in a row, _down_until (loop time), and _down_error (what the last failure was).

    def __init__(
        self,
        database: str,
        size: int,
        *,
        owner: OpenerPool,
        dial: Dial,
        budget: Budget,
        events: Events,
        dice: random.Random,
    ) -> None:
        """Args:
        size: connections at most.
        dial: opens a checked connection; raises what `connect` raises, or UnsafeRole.
        """
        self.open = 0
        self._database = database
        self._size = size
        self._owner = owner
        self._dial = dial
        self._budget = budget
        self._events = events
        self._dice = dice
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._down_until = 0.0
        self._down_error: Exception | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def idle(self) -> bool:
        """Nothing is being opened."""
        return self._task is None

    def grow(self) -> None:
        """Open connections in the background, if somebody wants one and there may be one."""
        if self._task is None and self._may_open() and self._loop.time() >= self._down_until:
            self._task = self._loop.create_task(self._open_more(), name=f"open {self._database}")
            self._task.add_done_callback(self._done)

    def on_closed(self) -> None:
        """A connection that was opened is closed now."""
        self.open -= 1
        self._budget.give_back()
        self.grow()

    def refusal(self) -> TenantryError | None:
        """Why a caller need not wait: there is no connection, and the database is being left alone."""
        if self.open or self._down_error is None or self._loop.time() >= self._down_until:
            return None
        return self._told(self._down_error)

    async def stop(self) -> None:
        """Open nothing more. Idempotent."""
        await stop(self._task)

    def _may_open(self) -> bool:
        return self.open < self._size and self._owner.wants_connection()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            message = f"opening a connection to {self._database} failed"
            self._loop.call_exception_handler({"message": message, "exception": error})
        self.grow()

    async def _open_more(self) -> None:
        while self._may_open():
            await self._budget.acquire(self._owner, self._loop.time)
            if not self._may_open():  # served meanwhile
                self._budget.give_back()
                return
            self.open += 1
            started = self._loop.time()
            try:
                connection, proof_context = await self._dial()
            except BaseException as error:
                self.open -= 1
                self._budget.give_back()
                if not isinstance(error, Exception):
                    raise
                self._back_off(error)
                return
            self._failures, self._down_error = 0, None
            self._events.emit(
                ConnectionOpened(self._database, self._loop.time() - started, proof_context.pipelined)
            )
            self._owner.opened(connection, proof_context)

    def _back_off(self, error: Exception) -> None:
        self._failures += 1
        delay = driver.backoff(self._failures, self._dice)
        self._down_until = self._loop.time() + delay
        self._down_error = error
        self._events.emit(DatabaseDown(self._database, type(error).__name__, delay))
        self._loop.call_at(self._down_until, self.grow)
        if self.open == 0:
            self._owner.on_connect_failed(self._told(error))

    def _told(self, error: Exception) -> TenantryError:
        """What callers are told of a failure. A new error each time: tracebacks grow on raised ones."""
        if isinstance(error, TenantryError):
            return error.with_traceback(None)
        left = max(0.0, self._down_until - self._loop.time())
        told = DatabaseUnavailable(self._database, f"{type(error).__name__} while connecting", retry_after=left)
        told.__cause__ = error
        return told
