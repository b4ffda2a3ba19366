"""The connections to one database, and the queue in front of them.

Admission and pool are one thing here: whoever releases a connection hands it straight to the caller whose
turn it is, already bound to that caller's tenant. The connections are asyncpg's own.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

import asyncpg

from tenantry.errors import DatabaseUnavailable, NestedScope, RouterClosed, TenantBusy, TenantryError
from tenantry.events import Events
from tenantry.ids import Terms
from tenantry.router import binding, driver, handoff, scope
from tenantry.router.admission import Admission
from tenantry.router.answers import Answer
from tenantry.router.budget import Budget
from tenantry.router.connections import Connections
from tenantry.router.deadlines import Deadlines
from tenantry.router.driver import Connection
from tenantry.router.nesting import Nesting
from tenantry.router.opener import Dial, Opener
from tenantry.router.waiter import PooledConnection, Waiter
from tenantry.runtime.sqlstates import REFUSALS

#: Tenants whose way of opening a scope is kept ready, per pool.
_OPENINGS: Final = 10_000


class Pool:
    """Connections to one database, at most `size`, given out by `Admission`.

    `checkout` and `finish` are the hot path. Every decision about state is taken without awaiting.
    """

    # Mutable state: _openings (by tenant) and _nesting (which tasks hold scopes). Where each connection is stands
    # in `connections`, who waits in `admission`, until when in `_deadlines`, how many connections there are in
    # `_opener`.

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
        self._openings: dict[str, scope.ScopeOpener] = {}
        self._nesting = Nesting()
        self.connections = Connections(database, owner=self, events=events)
        self._deadlines = Deadlines(waits=Waiter.watched, late=self._too_late)
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
        return sum(not one.proof_context.pipelined for one in (*self.connections.idle, *self.connections.busy))

    def holders(self) -> list[Waiter]:
        """Whose scopes are open."""
        return [one.holder for one in self.connections.busy if one.holder is not None]

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
            if self.connections.closing:
                raise RouterClosed
            if self.connections.idle and self.admission.enter(waiter.tenant_key, waiter.terms, waiter.arrived):
                pooled = self.connections.take(self._loop.time())
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
            if await binding.bind(self, pooled, waiter):
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
        if self.connections.idle:
            self._serve_idle(now)
        if self._opener.open < self.size:
            self._opener.grow()
        if self._nesting.is_inner(waiter) and not turn.done():
            at_cap, busy = self.admission.at_cap(waiter.tenant_key, now), self.connections.busy
            if (why := self._nesting.deadlock(waiter, busy, size=self.size, at_cap=at_cap)) is not None:
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
            self.withdraw(waiter.pooled, waiter)
            self.take_back(waiter.pooled)

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
        self.withdraw(pooled, waiter)
        if answer.late:
            self.connections.drop(pooled, "broken")
            raise DatabaseUnavailable(self.database, "no answer within the deadline")
        binding.take_back_unopened(self, pooled, answer)
        return error if error.sqlstate in REFUSALS else None

    def answered(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """See `handoff.HandoffPool`."""
        waiter.riding = False
        if pooled.holder is waiter:
            pooled.since = self._loop.time()

    def abandon(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """See `handoff.HandoffPool`."""
        self.withdraw(pooled, waiter)
        pooled.dirty = True
        self.connections.clean_later(pooled, driver.predecessors(pooled.connection))

    def next_waiter(self, pooled: PooledConnection, waiter: Waiter) -> Waiter | None:
        """See `handoff.HandoffPool`."""
        now = self._loop.time()
        self.admission.leave(waiter.tenant_key, now - pooled.since, now)
        pooled.since = now
        if self._must_yield() or self.connections.unfit(pooled) is not None or self.connections.outdated(pooled):
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

    def put_back(self, waiter: Waiter) -> None:
        """See `handoff.HandoffPool`."""
        self.admission.restore(waiter, waiter.tenant_key, waiter.terms, self._loop.time())

    def take_back(self, pooled: PooledConnection) -> None:
        """See `handoff.HandoffPool`."""
        if pooled.dropped:
            return
        now = pooled.since = pooled.heard = self._loop.time()
        unfit = self.connections.unfit(pooled)
        if unfit is not None or self._must_yield():
            self.connections.drop(pooled, unfit or "budget")
            return
        if self.connections.outdated(pooled):
            self.connections.clean_later(pooled)
            return
        waiter = self._next(now)
        if waiter is not None:
            self.connections.busy.add(pooled)
            self.grant(pooled, waiter, bound=False)
        elif pooled.dirty:
            self.connections.clean_later(pooled)
        else:
            self.connections.rest(pooled)

    def _serve_idle(self, now: float) -> None:
        """Somebody has arrived: idle connections go to those whose turn it is."""
        while self.connections.idle and (waiter := self._next(now)) is not None:
            self.grant(self.connections.take(now), waiter, bound=False)

    def withdraw(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """See `handoff.HandoffPool`."""
        now = self._loop.time()
        self.admission.leave(waiter.tenant_key, now - pooled.since, now)

    def release_broken(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """The scope's connection is of no more use: cut it."""
        self._nesting.let_go(pooled)
        self.withdraw(pooled, waiter)
        self.connections.drop(pooled, "broken")

    def _must_yield(self) -> bool:
        """Another pool has waited for a permit longer than our next caller for a connection."""
        oldest = self._budget.oldest()
        if oldest is None:
            return False
        first = self.admission.first_waiting()
        return first is None or first.arrived > oldest

    # -- what the opener asks and tells ------------------------------------------------------------

    def wants_connection(self) -> bool:
        """See `OpenerPool`."""
        return not self.connections.closing and self.admission.eligible()

    def opened(self, connection: Connection, proof_context: scope.ProofContext) -> None:
        """See `OpenerPool`."""
        self.take_back(self.connections.add(connection, proof_context))

    def on_closed(self) -> None:
        """See `ConnectionsOwner`."""
        self._opener.on_closed()

    def on_connect_failed(self, error: TenantryError) -> None:
        """See `OpenerPool`."""
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
        if self.connections.idle or self.connections.busy:
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

    def idle_since(self) -> float | None:
        """See `Spender`."""
        idle = self.connections.idle
        return idle[0].since if idle else None

    def close_idle(self) -> bool:
        """See `Spender`."""
        return self.connections.drop_oldest("budget")

    def reap(self, now: float) -> None:
        """Close what has been idle for too long."""
        while (since := self.idle_since()) is not None and now - since >= self._idle_seconds:
            self.connections.drop_oldest("idle")

    def state(self) -> dict[str, int]:
        """Connections by state: "idle", "busy" (in a scope or being cleaned), "opening"."""
        idle, busy = len(self.connections.idle), len(self.connections.busy)
        return {"idle": idle, "busy": busy, "opening": max(0, self.open - idle - busy)}

    async def close(self, seconds: float) -> int:
        """Refuse new work, fail the waiting, close the connections. Idempotent.

        Args:
            seconds: that scopes in progress get to end; then their connections are cut.

        Returns:
            How many scopes were cut.
        """
        self.connections.closing = True
        self._fail_waiting(RouterClosed())
        self._deadlines.close()
        await self._opener.stop()
        cut = await self.connections.close(seconds)
        self._budget.part(self)
        return cut

    def __repr__(self) -> str:
        return f"<Pool {self.database} {self.state()} of {self.size}, {self.admission.waiting} waiting>"
