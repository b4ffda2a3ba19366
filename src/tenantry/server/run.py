"""Runs the server: until it is told to stop, or as long as a block runs."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn

from tenantry.errors import ConfigError
from tenantry.operations.context import Context
from tenantry.runtime.shielded import run_shielded
from tenantry.server.app import application
from tenantry.server.console.access import ConsoleAccess
from tenantry.server.monitoring import FleetMonitor, start_monitoring

#: Seconds that answers which are under way may still take when the server ends.
GRACE: Final = 5

logger = logging.getLogger("tenantry")


async def serve(
    context: Context, *, host: str, port: int, ready: Callable[[str], None], access: ConsoleAccess | None = None
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        port: 0: any free one.
        ready: called with the address once it is listened on.
        access: who may look; None: everybody who reaches the address.

    Raises:
        ConfigError: the address can't be listened on.
    """
    listening = _listen(host, port)
    try:
        monitor = await start_monitoring(context.store, context.config)
        try:
            server = _server(uvicorn.Server, context, monitor, host, access)
            ready(_address(listening, host))
            await server.serve(sockets=[listening])
        finally:
            await monitor.close()
    finally:
        listening.close()


@asynccontextmanager
async def serving(context: Context, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve in the background while the block runs; gives the address. Signals stay the caller's.

    Raises:
        ConfigError: the address can't be listened on.
    """
    listening = _listen(host, port)
    try:
        monitor = await start_monitoring(context.store, context.config)
        try:
            server = _server(_Quiet, context, monitor, host, None)
            task = asyncio.create_task(server.serve(sockets=[listening]), name="tenantry console")
            try:
                yield _address(listening, host)
            finally:
                server.should_exit = True
                await run_shielded(_ended(task), seconds=2.0 * GRACE, name="ending the console")
        finally:
            await monitor.close()
    finally:
        listening.close()


class _Quiet(uvicorn.Server):
    """Takes no signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the console has ended", exc_info=error)


def _server(
    kind: type[uvicorn.Server], context: Context, monitor: FleetMonitor, host: str, access: ConsoleAccess | None
) -> uvicorn.Server:
    app = application(
        context,
        host=host,
        access=access,
        sessions=monitor.monitors.sessions,
        stopping=lambda: server.should_exit,
    )
    options = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Where a request comes from decides who is let in: the peer says it, and no header.
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )
    server = kind(options)
    return server


def _address(listening: socket.socket, host: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(
            f"can't listen on {host} port {port}: {error.strerror or error}; pass another --port or --host"
        ) from None
