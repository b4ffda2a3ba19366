"""Stands between asyncpg and the socket: every byte that asyncpg sends or gets passes here.

asyncpg's connection speaks through a protocol object. Ours is a subclass of that object's class, put on the
connection once it is connected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from asyncpg import protocol

from tenantry.router.origin import Origin

#: The methods by which asyncpg's objects (connections, statements, cursors, transactions) send something.
_SENDING: Final = (
    "prepare",
    "bind_execute",
    "bind_execute_many",
    "bind",
    "execute",
    "close_portal",
    "close_statement",
    "query",
    "copy_in",
    "copy_out",
    "close",
)


class ScopeProtocol(protocol.Protocol):
    """asyncpg's protocol, for use at one origin only."""

    # Mutable state: that of asyncpg's.

    origin: Origin

    def abort(self) -> None:
        """As asyncpg's, which says goodbye to the server; in another process or thread, nothing happens."""
        if self.origin.here():
            super().abort()


def _guarded(name: str) -> Callable[..., Any]:
    send = getattr(protocol.Protocol, name)

    def guarded(self: ScopeProtocol, *args: Any, **options: Any) -> Any:
        self.origin.check()
        return send(self, *args, **options)

    guarded.__name__ = name
    return guarded


for _name in _SENDING:
    setattr(ScopeProtocol, _name, _guarded(_name))


def adopt(connection: Any, origin: Origin) -> None:
    """Let a new connection be used at `origin` only."""
    spoken = connection._protocol
    spoken.__class__ = ScopeProtocol
    spoken.origin = origin
