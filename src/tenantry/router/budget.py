"""How many connections the process may have over all its pools, and how fast it may open them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol


class Spender(Protocol):
    """A pool, as the budget sees it."""

    def idle_since(self) -> float | None:
        """When its longest idle connection was used last; None: it has no idle one."""

    def close_idle(self) -> bool:
        """Close one idle connection, and give its permit back when it is gone. False: none is idle."""


class Budget:
    """Permits for connections: at most `limit` at once, given by turns.

    A permit is held from before a connection is opened until after it is closed, so the server never sees
    more than `limit`. When there is none left, an idle connection of some pool is closed to make room; when
    none is idle either, pools wait in order of arrival, and a busy pool gives up a connection that comes
    back to it if somebody has been waiting for a permit longer than its own next caller for a connection.
    """

    # Mutable state: used (permits given), _line (who waits: time, pool, future), _spenders, and _paced_until
    # (when the next connection may be opened).

    def __init__(self, limit: int, *, rate: float = 100.0, burst: int = 20) -> None:
        """Args:
        limit: connections.
        rate: connections opened per second, in the long run.
        burst: connections opened at once after a pause.
        """
        self.limit = limit
        self.used = 0
        self._line: deque[tuple[float, object, asyncio.Future[None]]] = deque()
        self._spenders: dict[Spender, None] = {}
        self._interval = 1.0 / rate
        self._burst = burst * self._interval
        self._paced_until = 0.0

    def join(self, spender: Spender) -> None:
        """A pool may be asked for idle connections from now on."""
        self._spenders[spender] = None

    def part(self, spender: Spender) -> None:
        """A pool is closed."""
        self._spenders.pop(spender, None)

    @property
    def waiting(self) -> int:
        """How many pools wait for a permit."""
        return len(self._line)

    def oldest(self) -> float | None:
        """Since when the first in the line has been waiting; None when nobody is."""
        return self._line[0][0] if self._line else None

    async def acquire(self, spender: object, now: Callable[[], float]) -> None:
        """Get a permit, waiting by turns; then wait until the pace allows opening a connection.

        A cancelled caller leaves nothing behind.
        """
        if self.used < self.limit and not self._line:
            self.used += 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            place = (now(), spender, turn)
            self._line.append(place)
            self._make_room(spender)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.give_back()
                elif place in self._line:  # a permit may have passed it by in this very turn
                    self._line.remove(place)
                raise
        try:
            await self._pace(now)
        except asyncio.CancelledError:
            self.give_back()
            raise

    def give_back(self) -> None:
        """A connection is closed: its permit goes to the first in the line."""
        self.used -= 1
        while self._line and self.used < self.limit:
            _, _, turn = self._line.popleft()
            if not turn.done():
                self.used += 1
                turn.set_result(None)

    def _make_room(self, asking: object) -> None:
        idle = [
            (since, number, spender)
            for number, spender in enumerate(self._spenders)
            if spender is not asking and (since := spender.idle_since()) is not None
        ]
        if idle:
            min(idle)[2].close_idle()

    async def _pace(self, now: Callable[[], float]) -> None:
        at = now()
        self._paced_until = max(self._paced_until, at - self._burst) + self._interval
        if self._paced_until > at:
            await asyncio.sleep(self._paced_until - at)
