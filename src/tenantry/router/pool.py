"""The connections to one database, and the queue in front of them.

Admission and pool are one thing here: whoever releases a connection hands it straight to the caller whose
turn it is, already bound to that caller's tenant. The connections are asyncpg's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import asyncpg

from tenantry.errors import DatabaseUnavailable, NestedScope, RouterClosed, TenantBusy, TenantryError
from tenantry.events import ConnectionClosed, Events
from tenantry.ids import Terms
from tenantry.router import disconnect, driver, handoff, scope
from tenantry.router.admission import Admission
from tenantry.router.answers import Answer, Unit
from tenantry.router.budget import Budget
from tenantry.router.deadlines import Deadlines
from tenantry.router.driver import Connection
from tenantry.router.messages import SYNC
from tenantry.router.nesting import Nesting
from tenantry.router.opener import Dial, Opener
from tenantry.router.waiter import PooledConnection, Waiter
from tenantry.runtime.shielded import run_shielded
from tenantry.runtime.sqlstates import CANCELLED, LEFTOVERS, REFUSALS

#: Seconds that bringing a connection of unknown state back to a clean one may take; then it is cut.
CLEANUP: Final = 5.0

logger = logging.getLogger("tenantry")

#: How often an opening is sent again that somebody else's cancel request has interrupted.
RETRIES: Final = 5

#: A connection of which nothing was heard for so many seconds may be dead, and nobody has told us: firewalls
#: forget quiet connections. So its next scope is opened alone, and has `ANSWER` seconds for it before another
#: connection is tried.
QUIET: Final = 5.0
ANSWER: Final = 2.0

#: Tenants whose way of opening a scope is kept ready, per pool.
_OPENINGS: Final = 10_000


class Pool:
    """Connections to one database, at most `size`, given out by `Admission`.

    `checkout` and `finish` are the hot path. Every decision about state is taken without awaiting; a connection is
    at every moment in exactly one hand: idle, a caller's, or a cleanup task's.
    """

    # Mutable state: _idle (clean connections, oldest use first), _busy (connections in somebody's hand),
    # _openings (by tenant), _nesting (which tasks hold scopes), _tasks (cleanup in the background), _schema (how
    # many schema changes were learned of; _learned_at: when the last one), _closing, and _vacant (closing, and no
    # connection is busy any more). Who waits is in `admission`, until when in `_deadlines`, how many connections
    # there are in `_opener`.

    def __init__(
        self,
        database: str,
        *,
        dial: Dial,
        admission: Admission[Waiter],
        budget: Budget,
        events: Events,
        key: bytes | None = None,
        idle: float = 600.0,
        dice: random.Random | None = None,
    ) -> None:
        """Args:
        database: its name in the directory.
        dial: opens a checked connection; raises what `connect` raises, or UnsafeRole.
        key: the database's, in hardened mode.
        idle: seconds after which an unused connection is closed.
        """
        self.database = database
        self.key = key
        self.size = admission.connections
        self.admission = admission
        self._budget = budget
        self._events = events
        self._idle_seconds = idle
        self._idle: deque[PooledConnection] = deque()
        self._busy: set[PooledConnection] = set()
        self._openings: dict[str, scope.ScopeOpener] = {}
        self._nesting = Nesting()
        self._schema = 0
        self._learned_at = float("-inf")
        self._deadlines = Deadlines(waits=Waiter.watched, late=self._too_late)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._vacant = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._opener = Opener(
            database,
            self.size,
            owner=self,
            dial=dial,
            budget=budget,
            events=events,
            dice=dice or random.Random(),  # noqa: S311  (jitter, not a secret)
        )
        budget.join(self)

    @property
    def open(self) -> int:
        """Connections that are open, or being opened or closed."""
        return self._opener.open

    @property
    def unpipelined(self) -> int:
        """Connections whose scopes are opened by a flight of their own."""
        return sum(not one.proof_context.pipelined for one in (*self._idle, *self._busy))

    def holders(self) -> list[Waiter]:
        """Whose scopes are open."""
        return [one.holder for one in self._busy if one.holder is not None]

    # -- the hot path ------------------------------------------------------------------------------

    def opening(self, tenant: str, terms: Terms) -> scope.ScopeOpener:
        """How a tenant's usual scope is opened here. `tenant` is the id as the databases write it."""
        known = self._openings.get(tenant)
        if known is None or known.statement_timeout != terms.statement_timeout:
            if len(self._openings) >= _OPENINGS:
                self._openings.clear()
            known = scope.ScopeOpener("BEGIN", tenant, terms.statement_timeout, self.key)
            self._openings[tenant] = known
        return known

    async def checkout(self, waiter: Waiter) -> PooledConnection:
        """Return a connection that is bound to the waiter's tenant, or will be by its first statement.

        Raises:
            TenantBusy: the line is full, or the deadline passed in it.
            NestedScope: the caller's task holds a scope here, and so does every task that could make room.
            DatabaseUnavailable: no connection could be had.
            asyncpg.PostgresError: the bind was refused, with its SQLSTATE; nothing is held then.
        """
        while True:
            if self._closing:
                raise RouterClosed
            if self._idle and self.admission.enter(waiter.tenant_key, waiter.terms, waiter.arrived):
                pooled = self._idle.pop()
                pooled.since = self._loop.time()
                self._busy.add(pooled)
            else:
                turn = self._queue(waiter)
                try:
                    await turn
                except asyncio.CancelledError:
                    self._on_wait_cancelled(waiter, turn)
                    raise
                finally:
                    self._nesting.done(waiter)
                assert waiter.pooled is not None
                pooled = waiter.pooled
                if waiter.bound:
                    self._nesting.hold(pooled, waiter)
                    return pooled
            if await self._bind(pooled, waiter):
                self._nesting.hold(pooled, waiter)
                return pooled

    def _queue(self, waiter: Waiter) -> asyncio.Future[None]:
        """Put a waiter into its line. The result comes when its turn does; fails when that comes too late."""
        now = self._loop.time()
        if self._opener.open == 0 and (refusal := self._opener.refusal()) is not None:
            raise refusal
        turn = waiter.wait(self._loop)
        if not self.admission.arrive(waiter, waiter.tenant_key, waiter.terms, now):
            raise self._busy_error(waiter, now, "its queue is full")
        self._deadlines.add(waiter.deadline, waiter)
        if self._idle:
            self._serve_idle(now)
        if self._opener.open < self.size:
            self._opener.grow()
        if self._nesting.is_inner(waiter) and not turn.done():
            at_cap = self.admission.at_cap(waiter.tenant_key, now)
            if (why := self._nesting.deadlock(waiter, self._busy, size=self.size, at_cap=at_cap)) is not None:
                self.admission.withdraw(waiter, waiter.tenant_key)
                turn.cancel()
                raise NestedScope(waiter.tenant, self.database, why)
        return turn

    def _on_wait_cancelled(self, waiter: Waiter, turn: asyncio.Future[None]) -> None:
        """The caller was cancelled while it waited: leave nothing behind."""
        if turn.done() and not turn.cancelled():
            turn.exception()  # retrieved: the cancellation is what the caller sees
        if not self.admission.withdraw(waiter, waiter.tenant_key) and waiter.pooled is not None:
            if waiter.bound and driver.predecessors(waiter.pooled.connection):
                self.abandon(waiter.pooled, waiter)
                return
            self._leave(waiter.pooled, waiter)
            self.take_back(waiter.pooled)

    async def _bind(self, pooled: PooledConnection, waiter: Waiter) -> bool:
        """Open the waiter's scope on a connection of ours, or let its first statement open it.

        False: the connection is of no use; try another.

        Raises:
            DatabaseUnavailable: no answer within the deadline.
            asyncpg.PostgresError: the opening was refused.
        """
        now = self._loop.time()
        quiet = now - pooled.heard
        context = pooled.proof_context
        opening = waiter.opening.opening(
            context,
            driver.statements(pooled.connection, context.pooled),
            scope.Before.OPEN if pooled.dirty else scope.Before.CLEAN,
        )
        if context.pipelined and not waiter.alone and quiet < QUIET:
            driver.open_with(pooled.connection, opening, waiter.deadline, prompt=waiter.prompt)
            return True
        pooled.dirty = True
        (opened,) = driver.send(pooled.connection, opening.data + SYNC)
        try:
            deadline = max(waiter.deadline, now + 0.001)
            async with asyncio.timeout_at(deadline if quiet < QUIET else min(deadline, now + ANSWER)):
                answer = await opened.answered()
        except asyncio.CancelledError:
            self._leave(pooled, waiter)
            await run_shielded(self._clean(pooled), seconds=CLEANUP, name="tenantry cleanup")
            raise
        except TimeoutError:
            self._leave(pooled, waiter)
            if quiet >= QUIET and self._loop.time() < waiter.deadline:
                self._give_up_quiet(pooled, quiet)
                return False
            self._spawn(self._clean(pooled))
            raise DatabaseUnavailable(self.database, "no answer within the deadline") from None
        if answer.error is None:
            return True
        self._leave(pooled, waiter)
        self._take_back_unopened(pooled, answer)
        if answer.lost or answer.error.sqlstate == LEFTOVERS:
            return False
        if answer.error.sqlstate == CANCELLED and waiter.retried < RETRIES:
            waiter.retried += 1  # by an operator, or a cancel request that came late: nothing has run
            return False
        raise answer.error

    def _give_up_quiet(self, pooled: PooledConnection, quiet: float) -> None:
        """A connection that was quiet for so many seconds is dead; those that were quiet for as long may be."""
        self.drop(pooled, "broken")
        heard = self._loop.time() - quiet
        for other in [one for one in self._idle if one.heard <= heard]:
            self._idle.remove(other)
            self.drop(other, "broken")

    async def finish(self, pooled: PooledConnection, waiter: Waiter, command: str) -> scope.ScopeOutcome:
        """End the waiter's scope, and open the next caller's in the same flight. See `handoff.finish`."""
        self._nesting.let_go(pooled)
        return await handoff.finish(self, pooled, waiter, command)

    def refused(self, pooled: PooledConnection, waiter: Waiter, answer: Answer) -> asyncpg.PostgresError | None:
        """The opening that travelled with the waiter's first statement was refused: give the connection back.

        Returns:
            The refusal, if it is about the tenant; None: the connection was not fit, another one may be.

        Raises:
            TenantBusy: the scope before has not ended within the waiter's deadline.
            DatabaseUnavailable: the server has not answered within it.
        """
        self._nesting.let_go(pooled)
        pooled.dirty = True
        error = answer.error
        assert error is not None
        if driver.predecessors(pooled.connection) and not answer.lost:
            self.abandon(pooled, waiter)
            raise self._busy_error(waiter, self._loop.time(), "the COMMIT before it goes on")
        self._leave(pooled, waiter)
        if answer.late:
            self.drop(pooled, "broken")
            raise DatabaseUnavailable(self.database, "no answer within the deadline")
        self._take_back_unopened(pooled, answer)
        return error if error.sqlstate in REFUSALS else None

    def _take_back_unopened(self, pooled: PooledConnection, answer: Answer) -> None:
        """A scope could not be opened on the connection: part with it, or bring it back to a clean state."""
        state = None if answer.error is None else answer.error.sqlstate
        if answer.lost or state == LEFTOVERS:
            self.drop(pooled, "broken" if answer.lost else "leftovers")
        elif state in REFUSALS:
            self.take_back(pooled)
        else:
            self._spawn(self._clean(pooled))

    def answered(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """See `handoff.HandoffPool`."""
        waiter.riding = False
        if pooled.holder is waiter:
            pooled.since = self._loop.time()

    def tidy(self, pooled: PooledConnection) -> None:
        """See `handoff.HandoffPool`."""
        self._spawn(self._clean(pooled))

    def abandon(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """See `handoff.HandoffPool`."""
        self._leave(pooled, waiter)
        pooled.dirty = True
        self._spawn(self._clean(pooled, driver.predecessors(pooled.connection)))

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
        idle, self._idle = list(self._idle), deque()
        for other in idle:
            self._spawn(self._clean(other))
            self._busy.add(other)
        logger.info(
            "database %s: its schema has changed; prepared statements and types are read anew", self.database
        )

    async def reopen(self, pooled: PooledConnection, waiter: Waiter) -> bool:
        """Open a scope of which nothing has run once more, on its connection, which has forgotten everything.

        False: it did not work.
        """
        connection = pooled.connection
        if connection.is_closed() or driver.is_cancelling(connection):
            return False
        driver.forget(connection)
        opening = waiter.opening.opening(
            pooled.proof_context, driver.statements(connection, pooled.proof_context.pooled), scope.Before.OUTDATED
        )
        (opened,) = driver.send(connection, opening.data + SYNC)
        answer = await opened.answered()
        return answer.error is None

    def lost_writability(self) -> None:
        """The server has become, or always was, read-only: no connection to it is used again."""
        for pooled in (*self._idle, *self._busy):
            pooled.read_only = True
        while self._idle:
            self.drop(self._idle.pop(), "read-only")

    def next_waiter(self, pooled: PooledConnection, waiter: Waiter) -> Waiter | None:
        """See `handoff.HandoffPool`."""
        now = self._loop.time()
        self.admission.leave(waiter.tenant_key, now - pooled.since, now)
        pooled.since = now
        if self._closing or self._must_yield() or pooled.read_only or pooled.schema != self._schema:
            return None
        if pooled.proof_context.pooled:  # nothing is sent behind a unit that leaves the session idle: see `scope`
            return None
        return self._next(now)

    # -- connections change hands ------------------------------------------------------------------------

    def _next(self, now: float) -> Waiter | None:
        """The waiter whose turn it is and whose caller still waits."""
        while (waiter := self.admission.take(now)) is not None:
            if waiter.waits():
                return waiter
            self.admission.leave(waiter.tenant_key, 0.0, now)
        return None

    def grant(self, pooled: PooledConnection, waiter: Waiter, *, bound: bool) -> None:
        """See `handoff.HandoffPool`."""
        pooled.since = self._loop.time()
        waiter.pooled, waiter.bound = pooled, bound
        assert waiter.future is not None
        waiter.future.set_result(None)

    def withdraw(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """See `handoff.HandoffPool`."""
        self._leave(pooled, waiter)

    def put_back(self, waiter: Waiter) -> None:
        """See `handoff.HandoffPool`."""
        self.admission.restore(waiter, waiter.tenant_key, waiter.terms, self._loop.time())

    def watch(self, pooled: PooledConnection, end: Unit, seconds: float) -> None:
        """See `handoff.HandoffPool`."""

        async def watching() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await end.answered()
            if end.answer is None:
                self.drop(pooled, "broken")

        self._spawn(watching())

    def take_back(self, pooled: PooledConnection) -> None:
        """See `handoff.HandoffPool`."""
        if pooled.dropped:
            return
        now = pooled.since = pooled.heard = self._loop.time()
        if pooled.connection.is_closed():
            self.drop(pooled, "broken")
            return
        if self._closing or pooled.read_only or self._must_yield():
            self.drop(pooled, "closing" if self._closing else "read-only" if pooled.read_only else "budget")
            return
        if pooled.schema != self._schema:
            self._busy.add(pooled)
            self._spawn(self._clean(pooled))
            return
        waiter = self._next(now)
        if waiter is not None:
            self._busy.add(pooled)
            self.grant(pooled, waiter, bound=False)
        elif pooled.dirty:
            self._spawn(self._clean(pooled))
        else:
            self._busy.discard(pooled)
            self._idle.append(pooled)

    def _serve_idle(self, now: float) -> None:
        """Somebody has arrived: idle connections go to those whose turn it is."""
        while self._idle and (waiter := self._next(now)) is not None:
            pooled = self._idle.pop()
            self._busy.add(pooled)
            self.grant(pooled, waiter, bound=False)

    def _leave(self, pooled: PooledConnection, waiter: Waiter) -> None:
        now = self._loop.time()
        self.admission.leave(waiter.tenant_key, now - pooled.since, now)

    def release_broken(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """The scope's connection is of no more use: cut it."""
        self._nesting.let_go(pooled)
        self._leave(pooled, waiter)
        self.drop(pooled, "broken")

    async def _clean(self, pooled: PooledConnection, before: Sequence[Unit] = ()) -> None:
        """Bring a connection of any state back, or cut it. Bounded.

        Args:
            before: the end of the scope before, whose caller waits for it however long it takes.
        """
        self._busy.add(pooled)
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
        self.take_back(pooled)

    def drop(self, pooled: PooledConnection, reason: str) -> None:
        """Part with a connection and with what runs on it, once; its permit comes back when it is gone."""
        if pooled.dropped:
            return
        pooled.dropped = True
        driver.give_up(pooled.connection)
        self._busy.discard(pooled)
        if self._closing and not self._busy:
            self._vacant.set()
        self._events.emit(ConnectionClosed(self.database, reason))
        if pooled.connection.is_closed():
            self._opener.on_closed()
        else:
            end_session = reason == "leftovers" and pooled.proof_context.pooled
            self._spawn(self._close_connection(pooled.connection, end_session=end_session))

    async def _close_connection(self, connection: Connection, *, end_session: bool) -> None:
        """Close it; `end_session`: at the server too, where a pooler would give the process to somebody else."""
        try:
            if end_session:
                (ended,) = driver.send(connection, scope.END_SESSION)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLEANUP):
                        await ended.answered()
            await disconnect.cancel_and_close(connection)
        finally:
            self._opener.on_closed()

    def _must_yield(self) -> bool:
        """Another pool has waited for a permit longer than our next caller for a connection."""
        oldest = self._budget.oldest()
        if oldest is None:
            return False
        first = self.admission.first_waiting()
        return first is None or first.arrived > oldest

    # -- what the opener asks and tells ------------------------------------------------------------

    def wants_connection(self) -> bool:
        """See `Owner`."""
        return not self._closing and self.admission.eligible()

    def opened(self, connection: Connection, proof_context: scope.ProofContext) -> None:
        """See `Owner`."""
        self.take_back(PooledConnection(connection, proof_context, self._loop.time(), self._schema))

    def on_connect_failed(self, error: TenantryError) -> None:
        """See `Owner`."""
        self._fail_waiting(error)

    def _fail_waiting(self, error: TenantryError) -> None:
        for waiter in self.admission.evict():
            if waiter.waits():
                assert waiter.future is not None
                waiter.future.set_exception(error)

    # -- errors and endings ------------------------------------------------------------------------

    def _too_late(self, waiter: Waiter) -> None:
        if waiter.riding:
            assert waiter.pooled is not None
            if waiter.pooled.holder is waiter:
                driver.be_late(waiter.pooled.connection)
            return
        now = self._loop.time()
        error: TenantryError
        if self._idle or self._busy:
            error = self._busy_error(waiter, now, "its deadline passed in the queue")
        else:
            error = DatabaseUnavailable(self.database, "no connection within the deadline")
        self.admission.withdraw(waiter, waiter.tenant_key)
        assert waiter.future is not None
        waiter.future.set_exception(error)

    def _busy_error(self, waiter: Waiter, now: float, why: str) -> TenantBusy:
        return TenantBusy(
            waiter.tenant,
            self.database,
            retry_after=self.admission.retry_after(waiter.tenant_key, now),
            waiting=self.admission.waiting_for(waiter.tenant_key),
            why=why,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a cleanup that failed has cut its connection already

    def idle_since(self) -> float | None:
        """See `Spender`."""
        return self._idle[0].since if self._idle else None

    def close_idle(self) -> bool:
        """See `Spender`."""
        if not self._idle:
            return False
        self.drop(self._idle.popleft(), "budget")
        return True

    def reap(self, now: float) -> None:
        """Close what has been idle for too long."""
        while self._idle and now - self._idle[0].since >= self._idle_seconds:
            self.drop(self._idle.popleft(), "idle")

    def state(self) -> dict[str, int]:
        """Connections by state: "idle", "busy" (in a scope or being cleaned), "opening"."""
        idle, busy = len(self._idle), len(self._busy)
        return {"idle": idle, "busy": busy, "opening": max(0, self.open - idle - busy)}

    async def close(self, seconds: float) -> int:
        """Refuse new work, fail the waiting, close the connections. Idempotent.

        Args:
            seconds: that scopes in progress get to end; then their connections are cut.

        Returns:
            How many scopes were cut.
        """
        self._closing = True
        self._fail_waiting(RouterClosed())
        self._deadlines.close()
        await self._opener.stop()
        while self.close_idle():
            pass
        if self._busy:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._vacant.wait()
        cut = len(self._busy)
        for pooled in list(self._busy):
            self.drop(pooled, "closing")
        await driver.wait_closed(self._tasks, CLEANUP)
        self._budget.part(self)
        return cut

    def __repr__(self) -> str:
        return f"<Pool {self.database} {self.state()} of {self.size}, {self.admission.waiting} waiting>"
