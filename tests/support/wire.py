"""PostgreSQL's message framing, enough to see where messages and flights begin and end.

Source: PostgreSQL documentation, "Frontend/Backend Protocol", "Message Formats".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

Side = Literal["client", "server"]

CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
STARTUP = b""  # the type of the client's messages before authentication: they carry none


@dataclass(frozen=True, slots=True)
class Message:
    """One whole protocol message.

    `side` that sent it; `type`, one byte, empty for a client's startup-phase message and `N`/`S`
    for the server's bare answer to an SSL request; `body` without type and length; `raw`, all of
    it; `connection`, counted by the proxy from 1.
    """

    side: Side
    type: bytes
    body: bytes
    raw: bytes
    connection: int


class Framing:
    """Cuts both directions of one connection into messages, whatever pieces they arrive in."""

    def __init__(self, connection: int) -> None:
        # Mutable state: what has arrived of the next message per side, and where the handshake is.
        self._connection = connection
        self._rest: dict[Side, bytes] = {"client": b"", "server": b""}
        self._starting = True
        self._bare_answers = 0

    def feed(self, side: Side, data: bytes) -> list[Message]:
        """The messages that are complete with this data."""
        rest = self._rest[side] + data
        messages: list[Message] = []
        while message := self._next(side, rest):
            messages.append(message)
            rest = rest[len(message.raw) :]
        self._rest[side] = rest
        return messages

    def _next(self, side: Side, data: bytes) -> Message | None:
        if side == "server" and self._bare_answers and data:
            self._bare_answers -= 1
            return Message(side, data[:1], b"", data[:1], self._connection)
        head = 0 if side == "client" and self._starting else 1
        if len(data) < head + 4:
            return None
        (length,) = struct.unpack_from("!i", data, head)
        if len(data) < head + length:
            return None
        body = data[head + 4 : head + length]
        if not head:
            (code,) = struct.unpack_from("!i", body)
            if code in (SSL_REQUEST, GSS_REQUEST):
                self._bare_answers += 1
            else:
                self._starting = False
        return Message(side, data[:head], body, data[: head + length], self._connection)
