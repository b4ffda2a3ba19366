"""Connections that a forked child can't touch.

A child of `os.fork` (and so of multiprocessing and ProcessPoolExecutor, by default before Python 3.14) holds
copies of its parent's sockets. Whatever it writes to one, the parent's server process reads as the parent's: a
statement, or the goodbye that asyncpg sends when a connection object is collected. No check of ours comes
before a finalizer, so the child loses the sockets themselves: in its first moment, before any code of the
application runs in it, each is replaced by one whose other end is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import weakref
from typing import Any

import asyncpg

from tenantry.runtime.cancel_requests import let_end

_open: weakref.WeakSet[ForkSafeConnection] = weakref.WeakSet()


class ForkSafeConnection(asyncpg.Connection):
    """For `connection_class=` of `asyncpg.connect` and `create_pool`."""

    __slots__ = ()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _open.add(self)

    def _clean_tasks(self) -> None:
        """asyncpg's own name: called when the connection goes, it would cut cancel requests short."""
        mine: Any = self  # the stubs leave private names out
        for request in mine._cancellations:
            if request is not asyncio.current_task(mine._loop):
                let_end(request)
        mine._cancellations.clear()


def _cut_in_child() -> None:
    """Runs in the child: its copies of the sockets lead nowhere from now on. The parent's are not touched."""
    connections = list(_open)
    if not connections:
        return
    dead, other = socket.socketpair()
    other.close()
    with dead:
        for connection in connections:
            transport = connection._transport  # type: ignore[attr-defined]  # asyncpg has no public way to it
            real = None if transport is None else transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                if real is not None and real.fileno() >= 0:
                    os.dup2(dead.fileno(), real.fileno(), inheritable=False)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(after_in_child=_cut_in_child)
