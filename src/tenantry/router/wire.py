"""What asyncpg's objects send, as the router's scopes need it: opened, metered, and ended behind a one-shot.

Everything that asyncpg's connections, statements, cursors, transactions and COPY ask of the server goes through
the methods here. The scope's opening travels in front of its first statement (see `openings`); a one-shot has its
ending behind it as well, and all of it is one flight.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from time import perf_counter
from typing import Any, Final

import asyncpg
from asyncpg import protocol

from tenantry.router.answers import IDLE, Answer, Statement, Travelling, Unit, lost_answer
from tenantry.router.openings import NotOpened, OpeningProtocol
from tenantry.router.origin import Origin
from tenantry.runtime.connection_errors import said_by_server

_NEVER: Final = float("inf")


class Ending:
    """An ending that was sent behind the only statement of its scope."""

    __slots__ = ("statement", "unit")

    def __init__(self, statement: Statement, unit: Unit) -> None:
        self.statement = statement
        self.unit = unit


class ScopeProtocol(OpeningProtocol):
    """asyncpg's protocol for scopes: their statements, and their meter."""

    # Mutable state, beside the openings'.

    statements: int | None
    """Named ones that asyncpg has on the server; None: nobody knows."""
    question: bytes | None
    """See `surroundings`; None: nobody wants to know."""

    # Of the present scope:

    ending: tuple[str, bytes] | None
    """A query, and the unit to send behind it."""
    ended: Ending | None
    """That was sent."""
    misread: bool
    """A statement was prepared of which nobody knows that it means the same in a later scope."""

    # The meter of the present scope:

    calls: int
    """That make the server run something."""
    busy: float
    """Seconds that asyncpg's calls took."""
    began: float
    """perf_counter seconds at which the server could begin with the last of them."""

    # And what only this class uses: _limit (a timeout that watches over the deadline, for who is prompt), _rider
    # (whose statement was sent behind the end of the scope before).

    def start(self, origin: Origin, transport: Any) -> None:
        """From now on the connection can be used at `origin` only."""
        self._limit: asyncio.Timeout | None = None
        self._rider: asyncio.Task[Any] | None = None
        self.statements = 0
        self.question = None
        super().start(origin, transport)

    def begin(self) -> None:
        """A scope begins, its opening sent or not."""
        super().begin()
        self.calls, self.busy, self.began = 0, 0.0, 0.0
        self.ending = self.ended = None
        self.misread = False

    # -- the meter ---------------------------------------------------------------------------------

    # A way of using a scope that is not metered would have to go past the methods below.

    def busy_until(self, now: float) -> float:
        """Seconds that the server worked at this scope's statements, one that is still running included."""
        return self.busy + (max(0.0, now - self.began) if self.running else 0.0)

    def _turned(self) -> None:
        """What was asked for before the scope's own statement is answered, perhaps."""
        if self.began == _NEVER and not self.before():
            self.began = perf_counter()
        if self._limit is not None and (self.travelling is None or not self.travelling.left):
            self._limit.reschedule(None)

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
                if not self.prompt and not self.before():  # whoever may be given up must not be committed then
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
            if said_by_server(error) and self.ended is None:
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
            if self.late and task.uncancel() <= cancelling:
                raise NotOpened(self._late_answer()) from None
            raise
        finally:
            self._rider = None

    def be_late(self) -> None:
        """The deadline of the present scope has passed, and the scope before has not ended."""
        if self.travelling is not None and self.travelling.left:
            self.late = True
            if self._rider is not None:
                self._rider.cancel()

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

    def _end(self, data: bytes) -> None:
        """Send the ending behind the statement that asyncpg has just sent."""
        self.ended = Ending(Statement(), Unit())
        self.filter.expected.append(self.ended.statement)
        self.filter.expected.append(self.ended.unit)
        self._write(data)

    def is_in_transaction(self) -> bool:
        """As asyncpg's, which does not see the answers to our units.

        After a call that was cut short (cancelled) the status may be an older one; `application_name` tells then.
        """
        if self.ended is not None:  # asyncpg must not send anything again
            return True
        if self.filter.status is not None:
            return self.filter.status != IDLE
        return bool(super().is_in_transaction())


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
