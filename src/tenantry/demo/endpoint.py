"""Serves this process's metrics on the loopback: what a service does with its own web framework."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from tenantry.metrics import exposition

_SECONDS: Final = 5.0


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Serve while the block runs; gives the URL."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"
    finally:
        server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, one answer."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        request = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _SECONDS)
        if request.startswith((b"GET /metrics ", b"GET /metrics?")):
            kind, body = exposition()
            status = "200 OK"
        else:
            kind, body, status = "text/plain", b"The metrics are at /metrics.\n", "404 Not Found"
        head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        await asyncio.wait_for(writer.drain(), _SECONDS)
    writer.close()


async def scrape(url: str) -> str:
    """What Prometheus would read there: the body. Raises OSError when the answer is not 200."""
    host, port = url.removeprefix("http://").partition("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = (await asyncio.wait_for(reader.read(), _SECONDS)).decode()
    finally:
        writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    if " 200 " not in head.partition("\r\n")[0]:
        raise OSError(f"{url} answered: {head.partition(chr(13))[0]}")
    return body
