"""An operator's wish to stop a move: at once wherever that is clean, and never inside a fence."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tenantry.runtime.shielded import stop

T = TypeVar("T")


class Interrupted(Exception):
    """The work was broken off because somebody wished so. Becomes `MoveInterrupted` at the mover's door."""


class Interrupt:
    """Breaks a step off where that is clean.

    Every step may end anywhere, since it may die anywhere (the fault matrix); what a clean stop adds is that
    sessions are closed, the lease is given back, and the journal says why. Only a fence is not broken off: between
    its lock and its commit's answer nobody could say where the tenant lives, and it lasts less than a second.
    """

    # Mutable state: _asked, set once and for ever; _fences, how many must not be broken off now;
    # _free, set while that is none.

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._fences = 0
        self._free = asyncio.Event()
        self._free.set()

    @property
    def asked(self) -> bool:
        """True once somebody wishes to stop."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Wish to stop. Harmless to repeat."""
        self._asked.set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do a piece of work that may be broken off.

        Raises:
            Interrupted: it was, or was not begun. What it had opened is closed.
        """
        if self.asked:
            work.close()
            raise Interrupted
        task = asyncio.create_task(work)
        try:
            while not task.done():
                await self._wait_for(task)
                if self._may_break_off() and not task.done():
                    task.cancel()
                    await asyncio.wait([task])
                    if task.cancelled():
                        raise Interrupted
        finally:
            await stop(task)
        return task.result()

    async def uninterrupted(self, work: Coroutine[Any, Any, T]) -> T:
        """Do a piece of work that must not be broken off; a wish waits until its end."""
        self._fences += 1
        self._free.clear()
        try:
            return await work
        finally:
            self._fences -= 1
            if not self._fences:
                self._free.set()

    def _may_break_off(self) -> bool:
        return self.asked and not self._fences

    async def _wait_for(self, task: asyncio.Task[Any]) -> None:
        wish = asyncio.create_task(self._wished())
        try:
            await asyncio.wait([task, wish], return_when=asyncio.FIRST_COMPLETED)
        finally:
            wish.cancel()

    async def _wished(self) -> None:
        await self._asked.wait()
        await self._free.wait()
