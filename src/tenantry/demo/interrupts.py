"""Ctrl-C at any moment, once or many times: the demo ends, and its cleaning up is never cut short.

The first signal ends what is running; those that follow, while it ends, change nothing. (asyncio's own handler
raises KeyboardInterrupt at the second one, wherever the program is: in the middle of stopping a server, say.)
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

#: A closed terminal and a polite kill clean up as Ctrl-C does.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """What a signal does now. Made by `interruptible`."""

    # Mutable state: came (a signal has come), _raises (no event loop yet: raise), _task (what to cancel).

    def __init__(self) -> None:
        self.came = False
        self._raises = True
        self._task: asyncio.Task[Any] | None = None

    def hold(self) -> None:
        """From now on a signal waits for `cancelling`, and is never raised."""
        self._raises = False

    async def cancelling(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`; a signal cancels it, once. It may end as it likes."""
        self._task = asyncio.current_task()
        try:
            if self.came:
                work.close()
                raise asyncio.CancelledError
            await work
        finally:
            self._task = None

    def __call__(self, _: int, __: FrameType | None) -> None:
        """The signals' handler."""
        if self.came:
            return
        self.came = True
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        elif self._raises:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Handle the signals while the block runs; elsewhere than in the main thread they are somebody else's."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.signal(number, interrupts) for number in _SIGNALS}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
