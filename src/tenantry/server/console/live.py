"""Server-sent events: tells an open page that something was read anew. The page then fetches itself.

Works without: a page without JavaScript reloads itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from tenantry.server.console.reading import ConsoleReader

#: Pages that may be open at once; further ones reload by themselves.
MOST: Final = 100
#: Seconds between two looks whether the server stops.
_TICK: Final = 0.5
#: Seconds without news after which a comment keeps proxies from closing the stream.
_QUIET: Final = 15.0
#: Seconds between two news to a page that follows a move.
_FAST: Final = 1.0


class Live:
    """Streams of news. Mutable state: _open, how many there are."""

    def __init__(self, reader: ConsoleReader, stopping: Callable[[], bool]) -> None:
        """Args:
        stopping: whether the server wants to end; streams end then.
        """
        self._reader = reader
        self._stopping = stopping
        self._open = 0

    async def stream(self, request: Request) -> Response:
        """One open page's stream. `?pace=fast`: news each second, for a page that asks the journal itself."""
        if self._open >= MOST:
            return PlainTextResponse("too many open pages\n", 503, {"Retry-After": "60"})
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._news(fast=request.query_params.get("pace") == "fast"),
            media_type="text/event-stream",
            headers=headers,
        )

    async def _news(self, *, fast: bool) -> AsyncIterator[str]:
        self._open += 1
        try:
            yield "retry: 5000\n\n"
            quiet = 0.0
            while not self._stopping():
                changed = self._reader.changed
                await self._reader.read()  # somebody looks: go on reading
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK):
                        await changed.wait()
                quiet += _TICK
                if changed.is_set() or (fast and quiet >= _FAST):
                    quiet = 0.0
                    yield "event: read\ndata: 1\n\n"
                elif quiet >= _QUIET:
                    quiet = 0.0
                    yield ": nothing new\n\n"
        finally:
            self._open -= 1
