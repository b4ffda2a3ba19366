"""Stands between asyncpg and the socket: units and openings of ours go out between asyncpg's messages.

asyncpg's connection speaks through a protocol object. Ours is a subclass of that object's class, put on the
connection once it is connected. It sends *units* (see `answers`) while asyncpg awaits nothing, and a scope's
*opening* without a Sync, right in front of the scope's first statement: after an error PostgreSQL skips everything
up to the Sync, so a statement never runs where its opening was refused. The server sees to that, no client does.

An opening is kept until there is a statement, or was sent behind the end of the scope before.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg
from asyncpg import protocol

from tenantry.router.answers import Answer, AnswerFilter, Travelling, Unit, look_for_end, lost_answer
from tenantry.router.messages import FLUSH, SYNC, OpeningMessages
from tenantry.router.origin import Origin
from tenantry.router.outlet import Outlet

_ERROR: Final = b"E"[0]

#: Seconds that an opening waits at the server for its first statement. After that it is opened alone.
LINGER: Final = 0.02


class NotOpened(Exception):
    """A scope's opening was refused or lost, and nothing of the scope has run."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer.error))
        self.answer = answer


class OpeningProtocol(protocol.Protocol):
    """asyncpg's protocol, for use at one origin only, with messages of ours between asyncpg's."""

    # Mutable state, beside asyncpg's.

    origin: Origin
    filter: AnswerFilter
    running: int
    """Calls of asyncpg's that are under way."""
    said_goodbye: bool
    """The server has ended the session while nothing was asked of it; the connection's end may be on its way."""
    given_up: bool
    """It is being closed: a scope that is not open yet never will be."""

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
    late: bool
    """The pool says that the deadline has passed."""
    broken_off: bool
    """The server may have said COMMIT or ROLLBACK."""

    # And what only this class uses: _alone (the unit of an opening that travels alone), _held (what is to be sent
    # with the next statement), _seam (the last bytes of what the server said, of which the word for an ended
    # transaction may be the rest).

    def start(self, origin: Origin, transport: Any) -> None:
        """From now on the connection can be used at `origin` only."""
        self.origin = origin
        self.filter = AnswerFilter(self._pass, self._turned)
        self._outlet = Outlet(transport)
        self._held = b""
        self._alone: Unit | None = None
        self.running = 0
        self.said_goodbye = self.given_up = False
        self.opening = self.travelling = None
        self.deadline, self.prompt = float("inf"), False
        self.number = 0
        self.begin()

    def begin(self) -> None:
        """A scope begins, its opening sent or not."""
        self.number += 1
        self.late = self.broken_off = False
        self._seam = b""

    def _turned(self) -> None:
        """Something that was asked for is answered."""

    # -- units -------------------------------------------------------------------------------------

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

    # -- openings ----------------------------------------------------------------------------------

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

    def _flush(self) -> None:
        """The next caller has not sent its statement at once: what is held does not wait for it."""
        if self._held:
            held, self._held = self._held, b""
            self._outlet.write(held)
            if self.travelling is not None:  # nor does the server, which would look busy
                self.origin.loop.call_later(LINGER, self._end_unit, self.travelling)

    def before(self) -> list[Unit]:
        """What was asked for in front of the scope's opening, and is not answered: the end of the scope before."""
        found: list[Unit] = []
        for one in self.filter.expected:
            if one is self.travelling:
                return found
            if type(one) is Unit:
                found.append(one)
        return []

    def _carry(self) -> Travelling | None:
        """Let the opening travel with what asyncpg sends next; None: there is none that could.

        Raises:
            NotOpened: the connection is gone, or being closed.
        """
        if self.given_up or self._is_gone():
            raise NotOpened(lost_answer())
        if self.late and self.before():
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

    def _finished(self) -> bytes:
        """The scope ends, or never began: what ends its opening's unit, if that has no end."""
        travelling, self.travelling, self.opening, self._alone = self.travelling, None, None, None
        if travelling is None or travelling.synced or not (travelling.left or travelling.refusal is not None):
            return b""
        self.filter.expected.append(Unit())  # its answer is nobody's concern
        return SYNC

    def _late_answer(self) -> Answer:
        error = asyncpg.QueryCanceledError("the scope was not open in time")
        return Answer((), error, in_transaction=True, late=True)

    # -- what asyncio and asyncpg call -------------------------------------------------------------

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

    async def close(self, *args: Any, **options: Any) -> None:
        """As asyncpg's."""
        self.origin.check()
        self._flush()
        await super().close(*args, **options)

    def abort(self) -> None:
        """As asyncpg's, which says goodbye to the server; in another process or thread, nothing happens."""
        if self.origin.here():
            super().abort()
