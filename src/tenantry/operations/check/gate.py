"""How many sessions `check` holds at once: a server that is slow or dead keeps only its own databases waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qs, urlsplit

#: Sessions at once, in all and on one server.
AT_ONCE: Final = 48
ON_ONE_SERVER: Final = 8


class Gate:
    """Who may open a session now."""

    # Mutable state: a semaphore for each server; unpipelined, which is its user's.

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(AT_ONCE)
        self._servers: dict[str, asyncio.Semaphore] = {}
        self.unpipelined: dict[object, asyncio.Future[str | None]] = {}
        """By how databases are reached: why their scopes' openings can't travel; None: they can."""

    @asynccontextmanager
    async def of(self, dsn: str) -> AsyncIterator[None]:
        """A place, on the DSN's server first: those who wait for a slow one take none of the others'."""
        async with self._servers.setdefault(address(dsn), asyncio.Semaphore(ON_ONE_SERVER)), self._all:
            yield


def address(dsn: str) -> str:
    """Which server a DSN leads to: its hosts and ports."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    return f"{parts.netloc.rpartition('@')[2]} {query.get('host', '')} {query.get('port', '')}"
