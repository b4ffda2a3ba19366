"""The connections to one database, and the queue in front of them.

Admission and pool are one thing here: whoever releases a connection hands it straight to the caller whose
turn it is, already bound to that caller's tenant. The connections are asyncpg's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Coroutine
from typing import Any, Final

import asyncpg

from tenantry.errors import DatabaseUnavailable, RouterClosed, TenantBusy, TenantryError
from tenantry.events import ConnectionClosed, Events
from tenantry.lifecycle import to_the_end
from tenantry.router import driver, parting, scope
from tenantry.router.admission import Admission
from tenantry.router.budget import Budget
from tenantry.router.deadlines import Deadlines
from tenantry.router.driver import Connection
from tenantry.router.opener import Dial, Opener
from tenantry.router.slot import Slot, Ticket
from tenantry.tenant import Terms

#: Seconds that bringing a connection of unknown state back to a clean one may take; then it is cut.
CLEANUP: Final = 5.0

#: How often, and for how many seconds, a connection goes from hand to hand without being idle for a moment. Only
#: then can a pooler behind it give the server's process to somebody else: another router would wait for ever.
HANDS: Final = 50
LONGEST: Final = 1.0

#: Tenants whose way of opening a scope is kept ready, per pool.
_OPENINGS: Final = 10_000


class Pool:
    """Connections to one database, at most `size`, given out by `Admission`.

    `checkout` and `finish` are the hot path. Every decision about state is taken without awaiting; a slot is
    at every moment in exactly one hand: idle, a caller's, or a cleanup task's.
    """

    # Mutable state: _idle (clean slots, oldest use first), _busy (slots in somebody's hand), _openings (by
    # tenant), _tasks (cleanup in the background), _closing, and _vacant (closing, and no slot is busy any
    # more). Who waits is in `admission`, until when in `_deadlines`, how many connections there are in `_opener`.

    def __init__(
        self,
        database: str,
        *,
        dial: Dial,
        admission: Admission[Ticket],
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
        self._idle: deque[Slot] = deque()
        self._busy: set[Slot] = set()
        self._openings: dict[str, scope.Opening] = {}
        self._deadlines = Deadlines(waits=Ticket.waits, late=self._too_late)
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

    # -- the hot path ------------------------------------------------------------------------------

    def opening(self, tenant: str, terms: Terms) -> scope.Opening:
        """How a tenant's usual scope is opened here. `tenant` is the id as the databases write it."""
        known = self._openings.get(tenant)
        if known is None or known.statement_timeout != terms.statement_timeout:
            if len(self._openings) >= _OPENINGS:
                self._openings.clear()
            known = scope.Opening("BEGIN", tenant, terms.statement_timeout, self.key)
            self._openings[tenant] = known
        return known

    async def checkout(self, ticket: Ticket) -> Slot:
        """Return a slot whose connection is bound to the ticket's tenant.

        Raises:
            TenantBusy: the line is full, or the deadline passed in it.
            DatabaseUnavailable: no connection could be had.
            asyncpg.PostgresError: the bind was refused, with its SQLSTATE; nothing is held then.
        """
        while True:
            if self._closing:
                raise RouterClosed
            if self._idle and self.admission.enter(ticket.line, ticket.terms, ticket.arrived):
                slot = self._idle.pop()
                slot.since = self._loop.time()
                self._busy.add(slot)
            else:
                turn = self._queue(ticket)
                try:
                    await turn
                except asyncio.CancelledError:
                    self._forsake(ticket, turn)
                    raise
                assert ticket.slot is not None
                slot = ticket.slot
                if ticket.bound:
                    return slot
            if await self._bind(slot, ticket):
                return slot

    def _queue(self, ticket: Ticket) -> asyncio.Future[None]:
        """Put a ticket into its line. The result comes when its turn does; fails when that comes too late."""
        now = self._loop.time()
        if self._opener.open == 0 and (refusal := self._opener.refusal()) is not None:
            raise refusal
        turn = ticket.wait(self._loop)
        if not self.admission.arrive(ticket, ticket.line, ticket.terms, now):
            raise self._busy_error(ticket, now, "its queue is full")
        self._deadlines.add(ticket.deadline, ticket)
        if self._idle:
            self._serve_idle(now)
        if self._opener.open < self.size:
            self._opener.grow()
        return turn

    def _forsake(self, ticket: Ticket, turn: asyncio.Future[None]) -> None:
        """The caller was cancelled while it waited: leave nothing behind."""
        if turn.done() and not turn.cancelled():
            turn.exception()  # retrieved: the cancellation is what the caller sees
        if not self.admission.withdraw(ticket, ticket.line) and ticket.slot is not None:
            self._leave(ticket.slot, ticket)
            self._put(ticket.slot)

    async def _bind(self, slot: Slot, ticket: Ticket) -> bool:
        """Open the ticket's scope on a slot of ours. False: the connection was dead; try another."""
        slot.rested, slot.handed = self._loop.time(), 0
        opening = ticket.opening
        message = opening.message_after("ROLLBACK", slot.seal) if slot.dirty else opening.message(slot.seal)
        slot.dirty = True
        left = ticket.deadline - slot.rested
        try:
            await slot.connection.execute(message, timeout=max(left, 0.001))
        except asyncio.CancelledError:
            self._leave(slot, ticket)
            await to_the_end(self._clean(slot), seconds=CLEANUP, name="tenantry cleanup")
            raise
        except TimeoutError:
            self._leave(slot, ticket)
            self._spawn(self._clean(slot))
            raise DatabaseUnavailable(self.database, "no answer within the deadline") from None
        except driver.LINK_ERRORS:
            self._leave(slot, ticket)
            self._drop(slot, "broken")
            return False
        except asyncpg.PostgresError:
            self._leave(slot, ticket)
            self._put(slot)
            raise
        return True

    async def finish(self, slot: Slot, ticket: Ticket, verb: str, *, doubtful: bool) -> scope.Answer:
        """End the ticket's scope by `verb`, and open the next caller's in the same message.

        The slot is no longer the caller's afterwards, whatever happens. `doubtful`: one of its statements failed.

        Returns:
            DONE or WAS_FAILED.

        Raises:
            asyncpg.PostgresError, OSError: why the COMMIT failed, or that nobody knows.
        """
        heir = self._heir(slot, ticket)
        message = scope.closing(
            verb, heir.opening if heir else None, slot.seal, doubtful=doubtful, tainted=slot.tainted
        )
        slot.dirty = True
        try:
            if doubtful:
                await parting.settle(slot.connection)
            await slot.connection.execute(message)
        except asyncio.CancelledError:
            if heir is not None:
                self.admission.restore(heir, heir.line, heir.terms, self._loop.time())
            await to_the_end(self._clean(slot), seconds=CLEANUP, name="tenantry cleanup")
            raise
        except BaseException as error:
            answer = self._read(slot, error, heir)
            self._sort_out(slot, heir, answer, error)
            if answer is not scope.Answer.WAS_FAILED and answer is not scope.Answer.ENDED_NEXT_REFUSED:
                raise
            return scope.Answer.DONE if answer is scope.Answer.ENDED_NEXT_REFUSED else answer
        if heir is None:
            slot.dirty = False
            self._put(slot)
        elif heir.waits():
            self._grant(slot, heir, bound=True)
        else:  # it was cancelled meanwhile
            self._leave(slot, heir)
            self._put(slot)
        return scope.Answer.DONE

    def _heir(self, slot: Slot, ticket: Ticket) -> Ticket | None:
        """Give the ticket's place up, and choose who gets its connection."""
        now = self._loop.time()
        self.admission.leave(ticket.line, now - slot.since, now)
        slot.since = now
        if slot.tainted or self._closing or self._must_yield():
            return None
        if slot.handed >= HANDS or now - slot.rested > LONGEST:
            return None
        slot.handed += 1
        return self._next(now)

    def _read(self, slot: Slot, error: BaseException, heir: Ticket | None) -> scope.Answer:
        closed = slot.connection.is_closed()
        return scope.read_answer(
            sqlstate=error.sqlstate if isinstance(error, asyncpg.PostgresError) else None,
            closed=closed,
            in_transaction=not closed and slot.connection.is_in_transaction(),
            next_sent=heir is not None,
        )

    def _sort_out(self, slot: Slot, heir: Ticket | None, answer: scope.Answer, error: BaseException) -> None:
        """The closing message failed in one of its parts: give the slot to the heir unbound, or take it back."""
        if answer is scope.Answer.UNKNOWN:
            if heir is not None:
                self.admission.restore(heir, heir.line, heir.terms, self._loop.time())
            self._drop(slot, "broken")
        elif heir is None:
            self._put(slot)
        elif answer is scope.Answer.ENDED_NEXT_REFUSED and getattr(error, "sqlstate", None) in scope.REFUSALS:
            self._leave(slot, heir)
            if heir.waits():
                assert heir.future is not None
                heir.future.set_exception(error)
            self._put(slot)
        elif heir.waits():
            self._grant(slot, heir, bound=False)
        else:
            self._leave(slot, heir)
            self._put(slot)

    # -- slots change hands ------------------------------------------------------------------------

    def _next(self, now: float) -> Ticket | None:
        """The ticket whose turn it is and whose caller still waits."""
        while (ticket := self.admission.take(now)) is not None:
            if ticket.waits():
                return ticket
            self.admission.leave(ticket.line, 0.0, now)
        return None

    def _grant(self, slot: Slot, ticket: Ticket, *, bound: bool) -> None:
        slot.since = self._loop.time()
        ticket.slot, ticket.bound = slot, bound
        assert ticket.future is not None
        ticket.future.set_result(None)

    def _put(self, slot: Slot) -> None:
        """Take a slot back: to the next caller, to cleanup, or to the idle ones."""
        now = slot.since = self._loop.time()
        if slot.connection.is_closed():
            self._drop(slot, "broken")
            return
        if slot.tainted or self._closing or self._must_yield():
            reason = "tainted" if slot.tainted else "closing" if self._closing else "budget"
            self._drop(slot, reason)
            return
        ticket = self._next(now)
        if ticket is not None:
            self._busy.add(slot)
            self._grant(slot, ticket, bound=False)
        elif slot.dirty:
            self._spawn(self._clean(slot))
        else:
            self._busy.discard(slot)
            self._idle.append(slot)

    def _serve_idle(self, now: float) -> None:
        """Somebody has arrived: idle slots go to those whose turn it is."""
        while self._idle and (ticket := self._next(now)) is not None:
            slot = self._idle.pop()
            self._busy.add(slot)
            self._grant(slot, ticket, bound=False)

    def _leave(self, slot: Slot, ticket: Ticket) -> None:
        now = self._loop.time()
        self.admission.leave(ticket.line, now - slot.since, now)

    def release_broken(self, slot: Slot, ticket: Ticket) -> None:
        """The scope's connection is of no more use: cut it."""
        self._leave(slot, ticket)
        self._drop(slot, "broken")

    async def _clean(self, slot: Slot) -> None:
        """Bring a connection of any state back, or cut it. Bounded."""
        self._busy.add(slot)
        try:
            async with asyncio.timeout(CLEANUP):
                await parting.settle(slot.connection)
                await slot.connection.execute(scope.ROLLBACK_AND_RESET)
                if slot.tainted:
                    await slot.connection.execute(scope.FORGET_PREPARED)
        except BaseException as error:
            self._drop(slot, "broken")
            if not isinstance(error, Exception):
                raise
            return
        slot.dirty = False
        self._put(slot)

    def _drop(self, slot: Slot, reason: str) -> None:
        """Part with a connection and with what runs on it, once; its permit comes back when it is gone."""
        if slot.dropped:
            return
        slot.dropped = True
        self._busy.discard(slot)
        if self._closing and not self._busy:
            self._vacant.set()
        self._events.emit(ConnectionClosed(self.database, reason))
        if slot.connection.is_closed():
            self._opener.gone()
        else:
            self._spawn(self._hang_up(slot.connection))

    async def _hang_up(self, connection: Connection) -> None:
        try:
            await parting.hang_up(connection)
        finally:
            self._opener.gone()

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

    def opened(self, connection: Connection, seal: scope.Seal) -> None:
        """See `Owner`."""
        self._put(Slot(connection, seal, self._loop.time()))

    def nothing_comes(self, error: TenantryError) -> None:
        """See `Owner`."""
        self._fail_waiting(error)

    def _fail_waiting(self, error: TenantryError) -> None:
        for ticket in self.admission.evict():
            if ticket.waits():
                assert ticket.future is not None
                ticket.future.set_exception(error)

    # -- errors and endings ------------------------------------------------------------------------

    def _too_late(self, ticket: Ticket) -> None:
        now = self._loop.time()
        error: TenantryError
        if self._idle or self._busy:
            error = self._busy_error(ticket, now, "its deadline passed in the queue")
        else:
            error = DatabaseUnavailable(self.database, "no connection within the deadline")
        self.admission.withdraw(ticket, ticket.line)
        assert ticket.future is not None
        ticket.future.set_exception(error)

    def _busy_error(self, ticket: Ticket, now: float, why: str) -> TenantBusy:
        return TenantBusy(
            ticket.tenant,
            self.database,
            retry_after=self.admission.retry_after(ticket.line, now),
            waiting=self.admission.waiting_for(ticket.line),
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

    def spare(self) -> float | None:
        """See `Spender`."""
        return self._idle[0].since if self._idle else None

    def shed(self) -> bool:
        """See `Spender`."""
        if not self._idle:
            return False
        self._drop(self._idle.popleft(), "budget")
        return True

    def reap(self, now: float) -> None:
        """Close what has been idle for too long."""
        while self._idle and now - self._idle[0].since >= self._idle_seconds:
            self._drop(self._idle.popleft(), "idle")

    def state(self) -> dict[str, int]:
        """Connections by state: "idle", "busy" (in a scope or being cleaned), "opening"."""
        idle, busy = len(self._idle), len(self._busy)
        return {"idle": idle, "busy": busy, "opening": max(0, self.open - idle - busy)}

    @property
    def quiet(self) -> bool:
        """Nothing is open and nobody waits: the pool can be forgotten."""
        return self.open == 0 and self.admission.waiting == 0 and self._opener.idle

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
        while self.shed():
            pass
        if self._busy:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._vacant.wait()
        cut = len(self._busy)
        for slot in list(self._busy):
            self._drop(slot, "closing")
        await driver.wait_closed(self._tasks, CLEANUP)
        self._budget.part(self)
        return cut

    def __repr__(self) -> str:
        return f"<Pool {self.database} {self.state()} of {self.size}, {self.admission.waiting} waiting>"
