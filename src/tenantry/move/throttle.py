"""Keeps a copy to so many bytes a second, over all its tables together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class Throttle:
    """Lets bytes pass at a steady rate, whoever sends them. Time in which nobody sends is not made up for."""

    # Mutable state: _due, when what has passed so far may have passed.

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Args:
        rate: bytes a second; None: no limit.
        """
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._due = float("-inf")

    async def passed(self, count: int) -> None:
        """Wait until `count` bytes more may have passed."""
        if self._rate is None:
            return
        now = self._clock()
        self._due = max(self._due, now) + count / self._rate
        await self._sleep(self._due - now)
