"""Messages of PostgreSQL's protocol, as bytes: what asyncpg does not send for us. Pure.

Layouts: PostgreSQL documentation, "Message Formats". All texts are UTF-8, which is the client encoding that
asyncpg sets; all parameters and results are in text format, their types left to the server.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: Ends a unit of the extended protocol: after an error the server skips everything up to here.
SYNC: Final = b"S\0\0\0\x04"

#: Asks for what the server has to say so far.
FLUSH: Final = b"H\0\0\0\x04"

_PARSED_AND_BOUND: Final = b"1\0\0\0\x042\0\0\0\x04"  # what the server says before a statement's tag

_EXECUTE: Final = b"E\0\0\0\x09\0\0\0\0\0"  # the unnamed portal, all rows
_NULL: Final = b"\xff\xff\xff\xff"


def simple(sql: str) -> bytes:
    """A Query message: a unit of its own, which may hold several statements."""
    return _framed(b"Q", sql.encode() + b"\0")


def bound(parameters: tuple[str | None, ...]) -> bytes:
    """Bind the unnamed statement to `parameters`, and execute it."""
    body = [b"\0\0\0\0", len(parameters).to_bytes(2, "big")]
    for parameter in parameters:
        if parameter is None:
            body.append(_NULL)
        else:
            raw = parameter.encode()
            body += (len(raw).to_bytes(4, "big"), raw)
    body.append(b"\0\0")
    return _framed(b"B", b"".join(body)) + _EXECUTE


def parsed(sql: str) -> bytes:
    """Parse one statement, as the unnamed one."""
    return _framed(b"P", b"\0" + sql.encode() + b"\0\0\0")


def statement(sql: str, *parameters: str | None) -> bytes:
    """Parse, bind and execute one statement, as the unnamed one: nobody can have replaced it."""
    return parsed(sql) + bound(parameters)


class OpeningMessages(NamedTuple):
    """Statements that open a scope, to be sent with a Sync behind them or with a statement that has one."""

    data: bytes
    statements: int
    answer: bytes
    """What the server says to all of them, where nothing comes in between."""


def answer(*tags: str) -> bytes:
    """What the server says to statements that give no rows, by their command tags."""
    return b"".join(_PARSED_AND_BOUND + _framed(b"C", tag.encode() + b"\0") for tag in tags)


def _framed(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body
