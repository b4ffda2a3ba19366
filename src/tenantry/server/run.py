"""Runs the server until it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from tenantry.errors import ConfigError
from tenantry.operations.context import Context
from tenantry.server.app import application
from tenantry.server.console.access import ConsoleAccess
from tenantry.server.monitoring import start_monitoring


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
                timeout_graceful_shutdown=5,
            )
            server = uvicorn.Server(options)
            shown = f"[{host}]" if ":" in host else host
            ready(f"http://{shown}:{listening.getsockname()[1]}")
            await server.serve(sockets=[listening])
        finally:
            await monitor.close()
    finally:
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(
            f"can't listen on {host} port {port}: {error.strerror or error}; pass another --port or --host"
        ) from None
