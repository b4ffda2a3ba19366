"""An event loop whose clock jumps to whatever is due next: half an hour of a router in seconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    """Waits for nothing; counts what it would have waited."""

    # Mutable state: now, in seconds.

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits for something that does not come")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """For tasks that wait for timers and for each other, and for nothing outside."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Simulated seconds, from 0."""
        return self._jumping.now


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, on a clock of its own."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


#: What `python -m benchmarks.scale` keeps of a simulation or a measurement.
Figures = Mapping[str, float]
