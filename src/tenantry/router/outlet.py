"""Writes of ours that share a packet with the one that asyncpg makes next.

asyncpg writes to its transport as soon as it has a message, and so would we: two packets, for which the server's
process is woken twice. What is written `ahead` waits in the kernel for the next write, of whoever it is. That is
Linux's MSG_MORE, on TCP; over TLS, on other systems and on local sockets it is a write like others.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any, Final

_MORE: Final = getattr(socket, "MSG_MORE", 0) | getattr(socket, "MSG_DONTWAIT", 0)


class Outlet:
    """What goes out to the server beside asyncpg's own."""

    # Mutable state: _socket (the transport's, under a number of our own; None: there is no other way than the
    # transport's).

    __slots__ = ("_socket", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._socket: socket.socket | None = None
        real = transport.get_extra_info("socket")
        tls = transport.get_extra_info("sslcontext") is not None
        if hasattr(socket, "MSG_MORE") and not tls and real is not None and real.family != socket.AF_UNIX:
            self._socket = socket.socket(fileno=os.dup(real.fileno()))

    def is_closing(self) -> bool:
        """As the transport's."""
        return bool(self._transport.is_closing())

    def write(self, data: bytes) -> None:
        """As the transport's."""
        self._transport.write(data)

    def ahead(self, data: bytes) -> None:
        """Send `data` together with the next write. Where none comes, it goes out after a fifth of a second."""
        if self._socket is not None and not self._transport.get_write_buffer_size():
            with contextlib.suppress(OSError):  # it is full, or broken, which the transport will find
                data = data[self._socket.send(data, _MORE) :]
            if not data:
                return
        self._transport.write(data)

    def push(self) -> None:
        """Send what waits for a next write."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # the connection has gone
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """The connection is gone. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
