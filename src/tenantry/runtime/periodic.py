"""Work that is done again and again in the background, until it is closed: one loop for all such parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

from tenantry.runtime.connection_errors import ANY_FAILURE
from tenantry.runtime.shielded import stop

logger = logging.getLogger("tenantry")

#: One round. It may return the seconds to pause after it; None: `every`.
Work = Callable[[], Awaitable[float | None]]
#: Called with a round's error and the number of failed rounds in a row, from 1. It may return the seconds to
#: pause; None: `every`.
OnError = Callable[[Exception, int], float | None]


class Periodic:
    """Does `work`, pauses, and does it again. No error ends it: only `close` does.

    `start` and `close` are idempotent and may come in any order; after `close` nothing runs any more, a round
    that was running has been cancelled and has ended, and `start` does nothing. Rounds never overlap.
    """

    # Mutable state: _task (made once, by `start`), _closed (set once), _woken (cleared before each round).

    def __init__(
        self,
        work: Work,
        every: float,
        on_error: OnError | None = None,
        *,
        name: str,
        jitter: float = 0.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Args:
        work: one round; its first begins at `start`.
        every: seconds between the end of a round and the beginning of the next.
        on_error: decides what is logged of an expected error and how long to pause. An unexpected one (none of
            `connection_errors.ANY_FAILURE`: a mistake of ours) is logged here, with its traceback, before.
        name: of the task, and in the log.
        jitter: part of a pause, 0 to 1, by which it is shorter or longer at random; keeps a fleet out of step.
        chance: 0 to 1.
        """
        self._work = work
        self._every = every
        self._on_error = on_error
        self._name = name
        self._jitter = jitter
        self._chance = chance
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def running(self) -> bool:
        """True from `start` to `close`."""
        return self._task is not None and not self._closed

    def start(self) -> None:
        """Begin, in the background."""
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """End the pause now. During a round: begin the next one right after it."""
        self._woken.set()

    async def close(self) -> None:
        """Cancel the round that runs, and wait until it has ended. From within a round: it is the last one."""
        self._closed = True
        await stop(self._task)

    async def _run(self) -> None:
        failures = 0
        while not self._closed:
            # Cleared before the round, not after it: who calls `wake` during the round may have changed what the
            # round has already read.
            self._woken.clear()
            try:
                pause = await self._work()
                failures = 0
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
                failures += 1  # something that the round awaited was cancelled, not this task: `close` didn't ask
                logger.exception("%s: a round was cancelled from within", self._name)
                pause = None
            except Exception as error:
                failures += 1
                pause = self._failed(error, failures)
            if not self._closed:
                await self._rest(self._every if pause is None else pause)

    def _failed(self, error: Exception, failures: int) -> float | None:
        if not isinstance(error, ANY_FAILURE):
            logger.error("%s failed", self._name, exc_info=error)
        if self._on_error is None:
            return None
        try:
            return self._on_error(error, failures)
        except Exception:
            logger.exception("%s: its error could not be handled", self._name)
            return None

    async def _rest(self, pause: float) -> None:
        seconds = pause * (1 - self._jitter + 2 * self._jitter * self._chance())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        await asyncio.sleep(0)  # a round that wakes itself and awaits nothing must not keep the event loop


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
