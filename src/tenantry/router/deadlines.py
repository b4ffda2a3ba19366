"""One timer for everybody who waits: setting and cancelling one for each caller costs as much as admission."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter")

#: Entries of waiters that have gone are swept out when they may outnumber the others, from so many on.
_SWEEP_FROM = 64


class Deadlines(Generic[Waiter]):
    """Calls `late(waiter)` when the deadline of a waiter has passed that still waits."""

    # Mutable state: _heap (deadline, number, waiter; of those that are gone too), _number (of the next one),
    # _timer with _fires (the loop time at which it does), and _sweep_at (the heap's length at the next sweep).

    def __init__(self, *, waits: Callable[[Waiter], bool], late: Callable[[Waiter], None]) -> None:
        """Args:
        waits: whether a waiter still waits.
        late: what to do with one whose deadline has passed.
        """
        self._loop = asyncio.get_running_loop()
        self._waits = waits
        self._late = late
        self._heap: list[tuple[float, int, Waiter]] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._fires = 0.0
        self._sweep_at = _SWEEP_FROM

    def add(self, deadline: float, waiter: Waiter) -> None:
        """Watch a waiter from now on. `deadline` is loop time in seconds."""
        heapq.heappush(self._heap, (deadline, self._number, waiter))
        self._number += 1
        if len(self._heap) > self._sweep_at:
            self._heap = [entry for entry in self._heap if self._waits(entry[2])]
            heapq.heapify(self._heap)
            self._sweep_at = 2 * len(self._heap) + _SWEEP_FROM
        if self._timer is None or deadline < self._fires:
            self._set()

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._fires = self._heap[0][0]
            self._timer = self._loop.call_at(self._fires, self._pass)

    def _pass(self) -> None:
        now = max(self._loop.time(), self._fires)  # the loop's clock is coarser than its timers
        self._timer = None
        while self._heap and (self._heap[0][0] <= now or not self._waits(self._heap[0][2])):
            _, _, waiter = heapq.heappop(self._heap)
            if self._waits(waiter):
                self._late(waiter)
        self._set()

    def __len__(self) -> int:
        return len(self._heap)

    def close(self) -> None:
        """Watch nobody any more."""
        self._heap.clear()
        self._set()
