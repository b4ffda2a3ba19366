"""Stands between asyncpg and the socket: sends messages of our own beside asyncpg's, and takes out their answers.

asyncpg's connection speaks through a protocol object. Ours is a subclass of that object's class, put on the
connection once it is connected. What the router sends by `send` is one *unit*: everything up to one ReadyForQuery,
which the server answers before it reads on. Units are sent while asyncpg awaits nothing, so the answers arrive in
the order in which they were asked for: ours first, then those to what asyncpg has sent meanwhile. Until
the last of ours is answered, each message is looked at; after that, asyncpg gets the bytes as they come.

Asynchronous messages (parameter changes, notices, notifications) are asyncpg's at any time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, NamedTuple

import asyncpg
from asyncpg import protocol

from tenantry.router.origin import Origin

#: The methods by which asyncpg's objects (connections, statements, cursors, transactions) send something.
_SENDING: Final = (
    "bind_execute",
    "bind_execute_many",
    "bind",
    "execute",
    "close_portal",
    "query",
    "copy_in",
    "copy_out",
)

_HEADER: Final = 5  # bytes: the message's type, and its length without the type
_READY, _ERROR, _COMPLETE = b"Z"[0], b"E"[0], b"C"[0]
_ASYNCHRONOUS: Final = frozenset(b"SNA")
#: What tells that a statement has ended a transaction, or gone back to a savepoint; rows may hold the same bytes.
_COMMITTED: Final = b"C\0\0\0\x0bCOMMIT\0"
_WENT_BACK: Final = b"C\0\0\0\x0dROLLBACK\0"
_SEAM: Final = len(_WENT_BACK) - 1
_ALL_SAID: Final = b"Z\0\0\0\x05"
_FATAL: Final = frozenset({"FATAL", "PANIC"})
_IDLE: Final = b"I"[0]


class Answer(NamedTuple):
    """What the server answered to one unit."""

    completed: tuple[str, ...]
    """The command tags of the statements that ran to their ends, as "COMMIT"."""
    error: asyncpg.PostgresError | None
    """Why it went no further."""
    in_transaction: bool
    """A transaction, alive or failed, is open now."""
    lost: bool = False
    """The connection went away before the answer was complete: what is not in `completed` is unknown."""


class AnswerFilter:
    """Takes the answers to our units out of what the server sends. Knows nothing of sockets."""

    # Mutable state: units (futures of those not answered, in order), with _completed and _error of the first;
    # _tail (the beginning of a message whose end has not come); status (of the last ReadyForQuery, if it was
    # ours).

    __slots__ = ("_completed", "_error", "_tail", "status", "units")

    def __init__(self) -> None:
        self.units: deque[asyncio.Future[Answer]] = deque()
        self.status: int | None = None
        self._completed: list[str] = []
        self._error: asyncpg.PostgresError | None = None
        self._tail = b""

    def feed(self, data: bytes) -> list[bytes]:
        """What of `data` is asyncpg's, in order. Not to be called while no unit is open."""
        if self._tail:
            data, self._tail = self._tail + data, b""
        passed: list[bytes] = []
        at, end = 0, len(data)
        while self.units:
            following = at + 1 + int.from_bytes(data[at + 1 : at + _HEADER], "big")
            if end - at < _HEADER or end < following:
                self._tail = bytes(data[at:])
                return passed
            kind = data[at]
            if kind in _ASYNCHRONOUS:
                passed.append(bytes(data[at:following]))
            elif kind == _READY:
                self._ready(data[at + _HEADER])
            elif kind == _ERROR:
                if self._error is None:
                    self._error = _error(bytes(data[at + _HEADER : following]))
                if self._error.severity in _FATAL:  # the session ends, whenever the connection does
                    self.lost(None)
            elif kind == _COMPLETE:
                self._completed.append(bytes(data[at + _HEADER : following - 1]).decode())
            at = following
        if at < end:
            passed.append(bytes(data[at:]))
        return passed

    def _ready(self, status: int) -> None:
        self.status = status
        self._answer(Answer(tuple(self._completed), self._error, status != _IDLE))

    def _answer(self, answer: Answer) -> None:
        self._completed, self._error = [], None
        unit = self.units.popleft()
        if not unit.done():
            unit.set_result(answer)

    def lost(self, cause: Exception | None) -> None:
        """The connection is gone: what was not answered never will be."""
        cause = self._error or cause
        while self.units:
            self._answer(Answer(tuple(self._completed), _gone(cause), in_transaction=False, lost=True))
        self._tail = b""


class ScopeProtocol(protocol.Protocol):
    """asyncpg's protocol, for use at one origin only, with units of ours in front of asyncpg's statements."""

    # Mutable state, beside asyncpg's: filter; running (calls of asyncpg's that are under way); statements (named
    # ones that asyncpg has on the server; None: nobody knows); said_goodbye (the server has ended the session
    # while nothing was asked of it; the end of the connection may be on its way); and the meter of the present
    # scope: calls (that make the server run something), busy (seconds that asyncpg's calls took), began
    # (perf_counter seconds at which the last of them was sent), misread (a statement was prepared of which nobody
    # knows that it means the same in a later scope), ended (the server may have said COMMIT or ROLLBACK; seam: the
    # last bytes of what came before, of which the word may be the rest).

    origin: Origin
    link: Any
    filter: AnswerFilter
    running: int
    said_goodbye: bool
    statements: int | None
    calls: int
    busy: float
    began: float
    misread: bool
    ended: bool
    seam: bytes
    question: bytes | None
    """See `surroundings`; None: nobody wants to know."""

    def start(self, origin: Origin, link: Any) -> None:
        """From now on the connection, whose transport is `link`, can be used at `origin` only."""
        self.origin, self.link = origin, link
        self.filter = AnswerFilter()
        self.running = 0
        self.said_goodbye = False
        self.statements = 0
        self.question = None
        self.reset_meter()

    # -- the meter ---------------------------------------------------------------------------------

    # Everything that asyncpg's objects ask of the server goes through the methods below (connections, statements,
    # cursors, transactions, COPY), so a way of using a scope that is not metered would have to go past them.

    def reset_meter(self) -> None:
        """A scope begins."""
        self.calls, self.busy, self.began = 0, 0.0, 0.0
        self.misread = False
        self.ended, self.seam = False, b""

    def busy_until(self, now: float) -> float:
        """Seconds that the server worked at this scope's statements, one that is still running included."""
        return self.busy + (now - self.began if self.running else 0.0)

    # -- the application's statements, sent by asyncpg ---------------------------------------------

    async def prepare(self, stmt_name: str, *args: Any, **options: Any) -> Any:
        """As asyncpg's; counts the statements that have a name."""
        self.origin.check()
        if stmt_name and self.calls and self.question is not None and not self.misread:
            self._ask()
        counted, self.statements = self.statements, None  # if this is cut short, nobody knows
        self.running += 1
        self.began = began = perf_counter()
        try:
            state = await super().prepare(stmt_name, *args, **options)
        except asyncpg.PostgresError:
            self.statements = counted
            raise
        finally:
            self.running -= 1
            self.busy += perf_counter() - began
        self.statements = counted if counted is None or not stmt_name else counted + 1
        return state

    def _ask(self) -> None:
        """Ask whether what is prepared next means the same in a later scope. No answer: it does not."""
        assert self.question is not None
        self.misread = True
        if not self.running and not self._is_cancelling():
            (answered,) = self.send(self.link, self.question)
            answered.add_done_callback(self._told)

    def _told(self, answered: asyncio.Future[Answer]) -> None:
        self.misread = answered.result().completed != ("SELECT 0",)

    async def close_statement(self, state: Any, *args: Any, **options: Any) -> Any:
        """As asyncpg's; counts the statements that have a name."""
        self.origin.check()
        counted, self.statements = self.statements, None
        self.running += 1
        self.began = began = perf_counter()
        try:
            done = await super().close_statement(state, *args, **options)
        finally:
            self.running -= 1
            self.busy += perf_counter() - began
        self.statements = None if counted is None else counted - bool(state.name)
        return done

    async def close(self, *args: Any, **options: Any) -> None:
        """As asyncpg's."""
        self.origin.check()
        await super().close(*args, **options)

    def abort(self) -> None:
        """As asyncpg's, which says goodbye to the server; in another process or thread, nothing happens."""
        if self.origin.here():
            super().abort()

    def is_in_transaction(self) -> bool:
        """As asyncpg's, which does not see the answers to our units.

        After a call that was cut short (cancelled) the status may be an older one; `application_name` tells then.
        """
        if self.filter.status is not None:
            return self.filter.status != _IDLE
        return bool(super().is_in_transaction())

    # -- units of ours -----------------------------------------------------------------------------

    def send(self, transport: Any, data: bytes, units: int = 1) -> list[asyncio.Future[Answer]]:
        """Send `data`, which holds so many units. Nothing of asyncpg's may be under way.

        The futures never fail: an answer tells what is known. Cancelling one changes nothing for the server.
        """
        self.origin.check()
        answers = [self.origin.loop.create_future() for _ in range(units)]
        if not self.is_connected() or self.said_goodbye or transport.is_closing():
            for answer in answers:
                answer.set_result(Answer((), _gone(None), in_transaction=False, lost=True))
            return answers
        self.filter.units.extend(answers)
        transport.write(data)
        return answers

    def data_received(self, data: bytes) -> None:  # type: ignore[override]  # asyncio says bytes
        """Take out the answers to our units; the rest is asyncpg's."""
        if not self.filter.units:
            if not self.running and data[0] == _ERROR:
                self.said_goodbye = True
            self._pass(data)
            return
        for passed in self.filter.feed(data):
            self._pass(passed)

    def _pass(self, data: bytes) -> None:
        """Give asyncpg what is its own, and notice what may have ended the scope's transaction."""
        ended, self.seam = look_for_end(self.seam, data)
        if ended:
            self.ended = True
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncpg's; what was not answered never will be."""
        super().connection_lost(exc)
        self.filter.lost(exc)


def look_for_end(seam: bytes, data: bytes) -> tuple[bool, bytes]:
    """Whether the server may have said COMMIT or ROLLBACK in `data`, which follows `seam`; the next seam."""
    found = _COMMITTED in data or _WENT_BACK in data
    if seam and not found:
        both = seam + data[:_SEAM]
        found = _COMMITTED in both or _WENT_BACK in both
    return found, b"" if data[-6:-1] == _ALL_SAID else (seam + data[-_SEAM:])[-_SEAM:]


def _gone(cause: BaseException | None) -> asyncpg.ConnectionDoesNotExistError:
    error = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    error.__cause__ = cause
    return error


def _error(body: bytes) -> asyncpg.PostgresError:
    """The error of an ErrorResponse: fields of one letter each, ended by zeros."""
    fields = {field[:1].decode(): field[1:].decode("utf-8", "replace") for field in body.split(b"\0") if field}
    made: asyncpg.PostgresError = asyncpg.PostgresError.new(fields)
    return made


def _guarded(name: str) -> Callable[..., Any]:
    send = getattr(protocol.Protocol, name)
    runs = name != "close_portal"

    async def guarded(self: ScopeProtocol, *args: Any, **options: Any) -> Any:
        self.origin.check()
        self.calls += runs
        self.running += 1
        self.began = began = perf_counter()
        try:
            answer = await send(self, *args, **options)
        except asyncpg.PostgresError as error:
            if error.severity is not None:  # else asyncpg's own: nothing was sent, or no ReadyForQuery has come
                self.filter.status = None
            raise
        finally:
            self.running -= 1
            self.busy += perf_counter() - began
        self.filter.status = None
        return answer

    guarded.__name__ = name
    return guarded


for _name in _SENDING:
    setattr(ScopeProtocol, _name, _guarded(_name))


def adopt(connection: Any, origin: Origin) -> None:
    """Let a new connection, which has no statements on the server yet, be used at `origin` only."""
    spoken = connection._protocol
    spoken.__class__ = ScopeProtocol
    spoken.start(origin, connection._transport)
    connection._transport.set_protocol(spoken)  # uvloop keeps the protocol's bound methods: let it look again
    spoken.statements = len(connection._stmt_cache)  # choosing among several hosts asks them something
