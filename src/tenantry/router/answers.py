"""Takes the answers to the router's own messages out of what the server sends. Knows nothing of sockets.

The server answers in the order in which it was asked. `AnswerFilter` keeps what it was asked for, as a queue of

    a unit         everything up to one ReadyForQuery: an end of a scope, a reset, an opening that travels alone
    an opening     statements without a Sync behind them, one CommandComplete each: what follows is in their unit
    a statement    asyncpg's own, up to ReadyForQuery; looked for only where a unit of ours comes behind it

and passes everything else on, byte by byte as it came. Asynchronous messages (parameter changes, notices,
notifications) are asyncpg's at any time. With nothing in the queue nobody needs to look.

PostgreSQL documentation, "Message Flow", sections "Extended Query" and "Pipelining".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import asyncpg

_HEADER: Final = 5  # bytes: the message's type, and its length without the type
_READY, _ERROR, _COMPLETE = b"Z"[0], b"E"[0], b"C"[0]
_ASYNCHRONOUS: Final = frozenset(b"SNA")
_FATAL: Final = frozenset({"FATAL", "PANIC"})
IDLE: Final = b"I"[0]

#: What tells that a statement has ended a transaction, or gone back to a savepoint; rows may hold the same bytes.
_COMMITTED: Final = b"C\0\0\0\x0bCOMMIT\0"
_WENT_BACK: Final = b"C\0\0\0\x0dROLLBACK\0"
_SEAM: Final = len(_WENT_BACK) - 1
_ALL_SAID: Final = b"Z\0\0\0\x05"


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
    late: bool = False
    """Nobody waits for it any longer."""


class Unit:
    """Messages of ours up to a Sync, or one of the simple protocol."""

    # Mutable state: answer, _then, _waiting.

    __slots__ = ("_then", "_waiting", "answer")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self._then: Callable[[Answer], None] | None = None
        self._waiting: list[asyncio.Future[Answer]] = []

    def on_answer(self, then: Callable[[Answer], None]) -> None:
        """Call `then` when the answer has come, before anybody who waits for it goes on."""
        if self.answer is None:
            self._then = then
        else:
            then(self.answer)

    async def answered(self) -> Answer:
        """Wait for the answer. Never fails; who is cancelled meanwhile changes nothing for anybody else."""
        if self.answer is not None:
            return self.answer
        mine: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        return await mine

    def settle(self, answer: Answer) -> None:
        """The answer has come."""
        self.answer = answer
        if self._then is not None:
            self._then(answer)
        for one in self._waiting:
            if not one.done():
                one.set_result(answer)


class Travelling:
    """An opening that was sent without a Sync."""

    # Mutable state: left (statements not answered yet; 0: the scope is open), carries, synced, refusal.

    __slots__ = ("answer", "carries", "left", "refusal", "synced")

    def __init__(self, statements: int, answer: bytes, *, carries: bool) -> None:
        """Args:
        statements: how many it holds.
        answer: what the server usually says to all of them; may be empty.
        carries: a statement of asyncpg's follows it in its unit.
        """
        self.left = statements
        self.answer = answer
        self.carries = carries
        self.synced = carries
        """Its unit has an end."""
        self.refusal: Answer | None = None
        """Why it went no further, if it did: what follows it in its unit is not run."""


class Statement:
    """One of asyncpg's, to whose end somebody looks."""

    # Mutable state: status.

    __slots__ = ("status",)

    def __init__(self) -> None:
        self.status: int | None = None
        """The transaction's after it, as in ReadyForQuery; None: it has not ended."""


class AnswerFilter:
    """See the module."""

    # Mutable state: expected (what was asked for and not answered, in order); _completed and _error (of the
    # first unit); _tail (the beginning of a message whose end has not come); status (of the last ReadyForQuery,
    # if it was to a unit).

    __slots__ = ("_completed", "_error", "_pass", "_tail", "_turn", "expected", "status")

    def __init__(self, pass_on: Callable[[bytes], None], turn: Callable[[], None] = lambda: None) -> None:
        """Args:
        pass_on: takes what is asyncpg's, in order.
        turn: called when something that was expected has come, after all before it was passed on.
        """
        self.expected: deque[Unit | Travelling | Statement] = deque()
        self.status: int | None = None
        self._pass = pass_on
        self._turn = turn
        self._completed: list[str] = []
        self._error: asyncpg.PostgresError | None = None
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """The server has sent `data`, a piece of any size."""
        if self._tail:
            data, self._tail = self._tail + data, b""
        at, end = 0, len(data)
        while self.expected:
            first = self.expected[0]
            if type(first) is Travelling and first.answer and data.startswith(first.answer, at):
                at += len(first.answer)
                first.left = 0
                self.expected.popleft()
                self._turn()
                continue
            following = at + 1 + int.from_bytes(data[at + 1 : at + _HEADER], "big")
            if end - at < _HEADER or end < following:
                self._tail = bytes(data[at:])
                return
            if data[at] in _ASYNCHRONOUS:
                self._pass(data[at:following])
            elif type(first) is Travelling:
                self._of_opening(first, data, at, following)
            elif type(first) is Statement:
                at = self._of_statement(first, data, at, following)
                continue
            else:
                self._of_unit(data, at, following)
            at = following
        if at < end:
            self._pass(data[at:] if at else data)

    def _of_opening(self, opening: Travelling, data: bytes, at: int, following: int) -> None:
        opening.answer = b""  # its messages are not in one piece, so they are counted
        kind = data[at]
        if kind == _COMPLETE:
            opening.left -= 1
            if not opening.left:
                self.expected.popleft()
                self._turn()
        elif kind == _ERROR:
            error = _error(data[at + _HEADER : following])
            fatal = error.severity in _FATAL
            opening.refusal = lost_answer(error) if fatal else Answer((), error, in_transaction=True)
            self.expected.popleft()
            if opening.carries:  # asyncpg waits for the answer to a statement: this is it
                self._pass(data[at:following])
            if fatal:
                self.lost(error)

    def _of_statement(self, statement: Statement, data: bytes, at: int, following: int) -> int:
        """Pass on as much of asyncpg's as is there. Returns how far that is."""
        began, end = at, len(data)
        while end >= following:
            if data[at] == _READY:
                statement.status = data[at + _HEADER]
                self.expected.popleft()
                self._pass(data[began:following])
                self._turn()
                return following
            at = following
            if end - at < _HEADER:
                break
            following = at + 1 + int.from_bytes(data[at + 1 : at + _HEADER], "big")
        if at > began:
            self._pass(data[began:at])
        return at

    def _of_unit(self, data: bytes, at: int, following: int) -> None:
        kind = data[at]
        if kind == _READY:
            self.status = data[at + _HEADER]
            self._answer(Answer(tuple(self._completed), self._error, self.status != IDLE))
            self._turn()
        elif kind == _ERROR:
            if self._error is None:
                self._error = _error(data[at + _HEADER : following])
            if self._error.severity in _FATAL:  # the session ends, whenever the connection does
                self.lost(None)
        elif kind == _COMPLETE:
            self._completed.append(data[at + _HEADER : following - 1].decode())

    def _answer(self, answer: Answer) -> None:
        self._completed, self._error = [], None
        unit = self.expected.popleft()
        assert type(unit) is Unit
        unit.settle(answer)

    def lost(self, cause: BaseException | None) -> None:
        """The connection is gone: what was not answered never will be."""
        cause = self._error or cause
        while self.expected:
            first = self.expected[0]
            if type(first) is Unit:
                self._answer(lost_answer(cause, tuple(self._completed)))
                continue
            if type(first) is Travelling:
                first.refusal = lost_answer(cause)
            self.expected.popleft()
        self._tail = b""


def look_for_end(seam: bytes, data: bytes) -> tuple[bool, bytes]:
    """Whether the server may have said COMMIT or ROLLBACK in `data`, which follows `seam`; the next seam."""
    found = _COMMITTED in data or _WENT_BACK in data
    if seam and not found:
        both = seam + data[:_SEAM]
        found = _COMMITTED in both or _WENT_BACK in both
    return found, b"" if data[-6:-1] == _ALL_SAID else (seam + data[-_SEAM:])[-_SEAM:]


def lost_answer(cause: BaseException | None = None, completed: tuple[str, ...] = ()) -> Answer:
    """The answer of a connection that is gone. A new error each time: tracebacks grow on raised ones."""
    error = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    error.__cause__ = cause
    return Answer(completed, error, in_transaction=False, lost=True)


def _error(body: bytes) -> asyncpg.PostgresError:
    """The error of an ErrorResponse: fields of one letter each, ended by zeros."""
    fields = {field[:1].decode(): field[1:].decode("utf-8", "replace") for field in body.split(b"\0") if field}
    made: Any = asyncpg.PostgresError.new(fields)
    assert isinstance(made, asyncpg.PostgresError)
    return made
