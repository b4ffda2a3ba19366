"""Where a router was opened: the only process, thread and event loop in which it may be used (guarantee G22)."""

from __future__ import annotations

import asyncio
from os import getpid
from threading import get_ident

from tenantry.errors import WrongContext


class Origin:
    """The place where this object was made. Immutable."""

    __slots__ = ("loop", "pid", "thread")

    def __init__(self) -> None:
        self.pid = getpid()
        self.thread = get_ident()
        self.loop = asyncio.get_running_loop()

    def check(self) -> None:
        """Make sure that the caller is where this object was made. Costs some 0.2 µs; sends nothing.

        Raises:
            WrongContext: in another process, thread or event loop.
        """
        if getpid() == self.pid and get_ident() == self.thread and asyncio._get_running_loop() is self.loop:
            return
        raise self.error()

    def here(self) -> bool:
        """The caller is in the process and thread where this object was made."""
        return getpid() == self.pid and get_ident() == self.thread

    def error(self) -> WrongContext:
        """Says in what the caller's place differs."""
        if getpid() != self.pid:
            return WrongContext("process", f"{self.pid}", f"{getpid()}")
        if get_ident() != self.thread:
            return WrongContext("thread", f"{self.thread}", f"{get_ident()}")
        running = asyncio._get_running_loop()
        return WrongContext("event loop", repr(self.loop), "none" if running is None else repr(running))
