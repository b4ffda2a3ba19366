"""Stands between asyncpg and the socket: sends messages of our own beside asyncpg's, and takes out their answers.

asyncpg's connection speaks through a protocol object. Ours is a subclass of that object's class, put on the
connection once it is connected. It sends *units* (see `answers`) while asyncpg awaits nothing, and a scope's
*opening* without a Sync, right in front of the scope's first statement: after an error PostgreSQL skips everything
up to the Sync, so a statement never runs where its opening was refused. The server sees to that, no client does.

A statement of a one-shot has its ending behind it as well, and all of it is one flight.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from time import perf_counter
from typing import Any, Final

import asyncpg
from asyncpg import protocol

from tenantry.router.answers import (
    IDLE,
    Answer,
    AnswerFilter,
    Statement,
    Travelling,
    Unit,
    look_for_end,
    lost_answer,
)
from tenantry.router.messages import FLUSH, SYNC, OpeningMessages
from tenantry.router.origin import Origin
from tenantry.router.outlet import Outlet

_ERROR: Final = b"E"[0]
_NEVER: Final = float("inf")

#: Seconds that an opening waits at the server for its first statement. After that it is opened alone.
LINGER: Final = 0.02


class NotOpened(Exception):
    """A scope's opening was refused or lost, and nothing of the scope has run."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer.error))
        self.answer = answer


class Ending:
    """An ending that was sent behind the only statement of its scope."""

    __slots__ = ("statement", "unit")

    def __init__(self, statement: Statement, unit: Unit) -> None:
        self.statement = statement
        self.unit = unit


class ScopeProtocol(protocol.Protocol):
    """asyncpg's protocol, for use at one origin only, with messages of ours between asyncpg's."""

    # Mutable state, beside asyncpg's.

    origin: Origin
    filter: AnswerFilter
    running: int
    """Calls of asyncpg's that are under way."""
    statements: int | None
    """Named ones that asyncpg has on the server; None: nobody knows."""
    said_goodbye: bool
    """The server has ended the session while nothing was asked of it; the connection's end may be on its way."""
    given_up: bool
    """It is being closed: a scope that is not open yet never will be."""
    question: bytes | None
    """See `surroundings`; None: nobody wants to know."""

    # Of the present scope:

    number: int
    """How many there were."""
    opening: OpeningMessages | None
    """Not sent yet."""
    travelling: Travelling | None
    """The opening, sent without a Sync, and not known to be answered."""
    deadline: float
    """Loop time until which it must be open."""
    prompt: bool
    """Somebody wants to know by then, however the server is."""
    ending: tuple[str, bytes] | None
    """A query, and the unit to send behind it."""
    ended: Ending | None
    """That was sent."""
    misread: bool
    """A statement was prepared of which nobody knows that it means the same in a later scope."""
    broken_off: bool
    """The server may have said COMMIT or ROLLBACK."""

    # The meter of the present scope:

    calls: int
    """That make the server run something."""
    busy: float
    """Seconds that asyncpg's calls took."""
    began: float
    """perf_counter seconds at which the server could begin with the last of them."""

    # And what only this class uses: _limit (a timeout that watches over the deadline, for who is prompt), _late
    # (the pool says that it has passed), _rider (whose statement was sent behind the end of the scope before),
    # _alone (the unit of an opening that travels alone), _held (what is to be sent with the next statement), _seam
    # (the last bytes of what the server said, of which the word for an ended transaction may be the rest).

    def start(self, origin: Origin, transport: Any) -> None:
        """From now on the connection can be used at `origin` only."""
        self.origin = origin
        self.filter = AnswerFilter(self._pass, self._turned)
        self._outlet = Outlet(transport)
        self._held = b""
        self._limit: asyncio.Timeout | None = None
        self._alone: Unit | None = None
        self._rider: asyncio.Task[Any] | None = None
        self.running = 0
        self.said_goodbye = self.given_up = False
        self.statements = 0
        self.question = None
        self.opening = self.travelling = None
        self.deadline, self.prompt = _NEVER, False
        self.number = 0
        self.begin()

    def begin(self) -> None:
        """A scope begins, its opening sent or not."""
        self.number += 1
        self.calls, self.busy, self.began = 0, 0.0, 0.0
        self.ending = self.ended = None
        self.misread = self.broken_off = self._late = False
        self._seam = b""

    # -- the meter ---------------------------------------------------------------------------------

    # Everything that asyncpg's objects ask of the server goes through the methods below (connections, statements,
    # cursors, transactions, COPY), so a way of using a scope that is not metered would have to go past them.

    def busy_until(self, now: float) -> float:
        """Seconds that the server worked at this scope's statements, one that is still running included."""
        return self.busy + (max(0.0, now - self.began) if self.running else 0.0)

    def _turned(self) -> None:
        """What was asked for before the scope's own statement is answered, perhaps."""
        if self.began == _NEVER and not self.before():
            self.began = perf_counter()
        if self._limit is not None and (self.travelling is None or not self.travelling.left):
            self._limit.reschedule(None)

    def before(self) -> list[Unit]:
        """What was asked for in front of the scope's opening, and is not answered: the end of the scope before."""
        found: list[Unit] = []
        for one in self.filter.expected:
            if one is self.travelling:
                return found
            if type(one) is Unit:
                found.append(one)
        return []

    # -- the application's statements, sent by asyncpg ---------------------------------------------

    def _check(self) -> None:
        self.origin.check()
        if self.ended is not None:
            raise asyncpg.InterfaceError("this scope was one statement's, and has ended with it")

    async def bind_execute(self, state: Any, *args: Any, **options: Any) -> Any:
        """As asyncpg's; the scope's opening may travel in front of it, and a one-shot's ending behind."""
        self._check()
        carried = None
        if self.opening is not None or self.travelling is not None:
            carried = self._carry()
            if carried is None:
                await self.open()
        self.calls += 1
        call = super().bind_execute(state, *args, **options)
        ending, self.ending = self.ending, None
        if ending is not None:
            if ending[0] == state.query and not self._is_cancelling() and not self.running:
                call = _and_then(call, lambda: self._end(ending[1]))
            else:
                self.ending = ending  # asyncpg asks for types first
        return await self._metered(call, carried)

    async def prepare(self, stmt_name: str, *args: Any, **options: Any) -> Any:
        """As asyncpg's; counts the statements that have a name. The scope's opening may travel in front of it."""
        self._check()
        carried = None
        if self.opening is not None or self.travelling is not None:
            carried = self._carry()
            if carried is None:
                await self.open()
        if stmt_name and self.calls and self.question is not None and not self.misread:
            self._ask()
        counted, self.statements = self.statements, None  # if this is cut short, nobody knows
        try:
            state = await self._metered(super().prepare(stmt_name, *args, **options), carried)
        except (asyncpg.PostgresError, NotOpened):
            self.statements = counted
            raise
        self.statements = counted if counted is None or not stmt_name else counted + 1
        return state

    def _ask(self) -> None:
        """Ask whether what is prepared next means the same in a later scope. No answer: it does not."""
        assert self.question is not None
        self.misread = True
        if not self.running and not self._is_cancelling() and not self._is_gone():
            asked = Unit()
            asked.on_answer(self._told)
            self.filter.expected.append(asked)
            self._write(self.question)

    def _told(self, answer: Answer) -> None:
        self.misread = answer.completed != ("SELECT 0",)

    async def close_statement(self, state: Any, *args: Any, **options: Any) -> Any:
        """As asyncpg's; counts the statements that have a name."""
        self._check()
        await self.open()
        counted, self.statements = self.statements, None
        done = await self._metered(super().close_statement(state, *args, **options), None)
        self.statements = None if counted is None else counted - bool(state.name)
        return done

    async def _metered(self, call: Coroutine[Any, Any, Any], carried: Travelling | None) -> Any:
        """Run a call of asyncpg's. `carried`: the opening that travels in front of it."""
        self.running += 1
        follows = carried is not None and self.filter.expected[0] is not carried
        self.began = _NEVER if follows else perf_counter()
        try:
            if carried is not None and self.prompt:
                answer = await self._before(self.deadline, call, carried)
            elif follows:
                answer = await self._behind(call)
            else:
                answer = await call
        except BaseException as error:
            if isinstance(error, asyncpg.PostgresError) and error.severity is not None and self.ended is None:
                self.filter.status = None  # else asyncpg's own: nothing was sent, or no ReadyForQuery has come
            if carried is not None:
                self._look_at(carried, error)
            raise
        finally:
            self.running -= 1
            self.busy += max(0.0, perf_counter() - self.began)
        if self.ended is None:
            self.filter.status = None
        if carried is not None:
            self._look_at(carried, None)
        return answer

    async def _behind(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The call, unless the pool says that the deadline has passed and the scope before has not ended.

        `asyncio.timeout` would do, for a timer of its own for each scope.
        """
        task = self._rider = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        try:
            return await call
        except asyncio.CancelledError:
            if self._late and task.uncancel() <= cancelling:
                raise NotOpened(self._late_answer()) from None
            raise
        finally:
            self._rider = None

    def be_late(self) -> None:
        """The deadline of the present scope has passed, and the scope before has not ended."""
        if self.travelling is not None and self.travelling.left:
            self._late = True
            if self._rider is not None:
                self._rider.cancel()

    def _late_answer(self) -> Answer:
        error = asyncpg.QueryCanceledError("the scope was not open in time")
        return Answer((), error, in_transaction=True, late=True)

    async def _before(self, deadline: float, call: Coroutine[Any, Any, Any], carried: Travelling) -> Any:
        """The call, if this scope is open by then."""
        try:
            async with asyncio.timeout_at(deadline) as self._limit:
                return await call
        except TimeoutError:
            if self._limit is None or not self._limit.expired():
                raise
            carried.refusal = carried.refusal or self._late_answer()
            raise NotOpened(carried.refusal) from None
        finally:
            self._limit = None

    def _look_at(self, carried: Travelling, error: BaseException | None) -> None:
        """A call is over that an opening travelled with: say so if that is why it failed."""
        if not isinstance(error, Exception | None):
            return
        if self.given_up or (error is not None and carried.left and carried.refusal is None and self._is_gone()):
            raise NotOpened(lost_answer(error)) from error
        if error is None:
            return
        if carried.refusal is not None:
            if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError):
                raise NotOpened(carried.refusal) from error
        elif carried.left and not self._is_cancelling():
            carried.carries = carried.synced = False  # asyncpg has sent nothing
            self._outlet.push()

    def _carry(self) -> Travelling | None:
        """Let the opening travel with what asyncpg sends next; None: there is none that could.

        Raises:
            NotOpened: the connection is gone, or being closed.
        """
        if self.given_up or self._is_gone():
            raise NotOpened(lost_answer())
        if self._late and self.before():
            raise NotOpened(self._late_answer())
        if self.opening is not None:
            self._depart(carries=True)
            return self.travelling
        travelling = self.travelling
        if travelling is None or travelling.synced or not travelling.left or travelling.refusal is not None:
            return None
        travelling.carries = travelling.synced = True
        if self._held or self.prompt:
            self._ahead(FLUSH if self.prompt else b"")
        return travelling

    def _depart(self, *, carries: bool) -> None:
        opening, self.opening = self.opening, None
        assert opening is not None
        self.travelling = Travelling(opening.statements, opening.answer, carries=carries)
        self.filter.expected.append(self.travelling)
        if carries:
            self._ahead(opening.data + FLUSH if self.prompt else opening.data)
        else:
            self._write(opening.data)

    async def open(self) -> None:
        """Open the scope before anything else of it is sent, if it is not open. One flight.

        Raises:
            NotOpened: that was refused.
        """
        if (self.opening is not None or self.travelling is not None) and (self.given_up or self._is_gone()):
            raise NotOpened(lost_answer())
        if self.opening is not None:
            self._depart(carries=False)
        travelling = self.travelling
        if travelling is None:
            return
        self._end_unit(travelling)
        number = self.number
        self.running += 1
        try:
            if travelling.left and self._alone is not None:
                await self._alone.answered()
            elif travelling.left and self._is_cancelling():  # it has travelled with a statement that was cancelled
                await self._wait_for_cancellation(None)
        finally:
            self.running -= 1
        if number != self.number:
            raise asyncpg.InterfaceError("this scope is over: ask the router for a new one")
        if travelling.refusal is not None:
            raise NotOpened(travelling.refusal)
        if travelling.left:  # it travels with a statement that is under way
            raise asyncpg.InterfaceError("cannot perform operation: another operation is in progress")
        self.travelling = self._alone = None

    def _end_unit(self, travelling: Travelling) -> None:
        """Let an opening travel alone, unless a statement is with it."""
        if self.travelling is travelling and travelling.left and not travelling.synced and not self._is_gone():
            travelling.synced = True
            self._alone = Unit()
            self.filter.expected.append(self._alone)
            self._write(SYNC)

    def _end(self, data: bytes) -> None:
        """Send the ending behind the statement that asyncpg has just sent."""
        self.ended = Ending(Statement(), Unit())
        self.filter.expected.append(self.ended.statement)
        self.filter.expected.append(self.ended.unit)
        self._write(data)

    async def close(self, *args: Any, **options: Any) -> None:
        """As asyncpg's."""
        self.origin.check()
        self._flush()
        await super().close(*args, **options)

    def abort(self) -> None:
        """As asyncpg's, which says goodbye to the server; in another process or thread, nothing happens."""
        if self.origin.here():
            super().abort()

    def is_in_transaction(self) -> bool:
        """As asyncpg's, which does not see the answers to our units.

        After a call that was cut short (cancelled) the status may be an older one; `application_name` tells then.
        """
        if self.ended is not None:  # asyncpg must not send anything again
            return True
        if self.filter.status is not None:
            return self.filter.status != IDLE
        return bool(super().is_in_transaction())

    # -- units of ours -----------------------------------------------------------------------------

    def send(self, data: bytes, units: int = 1) -> list[Unit]:
        """Send `data`, which holds so many units. Nothing of asyncpg's may be under way."""
        self.origin.check()
        sent = [Unit() for _ in range(units)]
        if self._is_gone():
            for unit in sent:
                unit.settle(lost_answer())
            return sent
        data = self._finished() + data
        self.filter.expected.extend(sent)
        self._write(data)
        return sent

    def _finished(self) -> bytes:
        """The scope ends, or never began: what ends its opening's unit, if that has no end."""
        travelling, self.travelling, self.opening, self._alone = self.travelling, None, None, None
        if travelling is None or travelling.synced or not (travelling.left or travelling.refusal is not None):
            return b""
        self.filter.expected.append(Unit())  # its answer is nobody's concern
        return SYNC

    def keep(self, opening: OpeningMessages, deadline: float, *, prompt: bool) -> None:
        """A scope begins, and is opened by its first statement; if `prompt`, by the deadline or not at all."""
        if rest := self._finished():
            self._write(rest)
        self.opening, self.deadline, self.prompt = opening, deadline, prompt

    def hand_over(self, ending: bytes, opening: OpeningMessages, deadline: float, *, prompt: bool) -> Unit:
        """End a scope, and begin the next one, whose first statement may follow at once. See `keep` and `send`.

        Both are sent with that statement, or without it when the event loop has been once around. When the
        statement does not come for a while, the scope is opened alone.
        """
        self.origin.check()
        end = Unit()
        rest = self._finished()
        self.travelling = Travelling(opening.statements, opening.answer, carries=False)
        self.deadline, self.prompt = deadline, prompt
        if self._is_gone():
            end.settle(lost_answer())
            self.travelling.refusal = lost_answer()
            return end
        self.filter.expected.append(end)
        self.filter.expected.append(self.travelling)
        self._held += rest + ending + opening.data
        self.origin.loop.call_soon(self._flush)
        return end

    def _is_gone(self) -> bool:
        return not self.is_connected() or self.said_goodbye or self._outlet.is_closing()

    def _write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        self._outlet.write(data)

    def _ahead(self, data: bytes) -> None:
        """Send it in one packet with what asyncpg sends next."""
        held, self._held = self._held, b""
        self._outlet.ahead(held + data)

    def _flush(self) -> None:
        """The next caller has not sent its statement at once: what is held does not wait for it."""
        if self._held:
            held, self._held = self._held, b""
            self._outlet.write(held)
            if self.travelling is not None:  # nor does the server, which would look busy
                self.origin.loop.call_later(LINGER, self._end_unit, self.travelling)

    def data_received(self, data: bytes) -> None:  # type: ignore[override]  # asyncio says bytes
        """Take out the answers to what is ours; the rest is asyncpg's."""
        if self.filter.expected:
            self.filter.feed(data)
            return
        if not self.running and data[0] == _ERROR:
            self.said_goodbye = True
        self._pass(data)

    def _pass(self, data: bytes) -> None:
        """Give asyncpg what is its own, and notice what may have ended the scope's transaction."""
        ended, self._seam = look_for_end(self._seam, data)
        if ended:
            self.broken_off = True
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncpg's; what was not answered never will be."""
        super().connection_lost(exc)
        self.filter.lost(exc)
        self._outlet.close()


@types.coroutine
def _and_then(call: Coroutine[Any, Any, Any], then: Callable[[], None]) -> Generator[Any, Any, Any]:
    """Await `call`, and do `then` once it has sent what it sends and waits for the answer."""
    try:
        waits_for = call.send(None)
    except StopIteration as done:
        return done.value
    then()
    while True:
        step: Callable[[Any], Any] = call.send
        try:
            given = yield waits_for
        except BaseException as error:
            step, given = call.throw, error
        try:
            waits_for = step(given)
        except StopIteration as done:
            return done.value


def _guarded(name: str) -> Callable[..., Any]:
    """asyncpg's method of that name, for a scope that is open."""
    send = getattr(protocol.Protocol, name)
    runs = name != "close_portal"

    async def guarded(self: ScopeProtocol, *args: Any, **options: Any) -> Any:
        self._check()
        if self.opening is not None or self.travelling is not None:
            await self.open()
        self.calls += runs
        return await self._metered(send(self, *args, **options), None)

    guarded.__name__ = name
    return guarded


#: The other methods by which asyncpg's objects (connections, statements, cursors, transactions) send something.
for _name in ("bind_execute_many", "bind", "execute", "close_portal", "query", "copy_in", "copy_out"):
    setattr(ScopeProtocol, _name, _guarded(_name))


def adopt(connection: Any, origin: Origin) -> None:
    """Let a new connection, which has no statements on the server yet, be used at `origin` only."""
    spoken = connection._protocol
    spoken.__class__ = ScopeProtocol
    spoken.start(origin, connection._transport)
    connection._transport.set_protocol(spoken)  # uvloop keeps the protocol's bound methods: let it look again
    spoken.statements = len(connection._stmt_cache)  # choosing among several hosts asks them something
