"""Runs the server until it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from tenantry.config import Config
from tenantry.directory import Store
from tenantry.errors import ConfigError
from tenantry.server.app import application
from tenantry.server.monitoring import start_monitoring


async def serve(store: Store, config: Config, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        port: 0: any free one.
        ready: called with the address once it is listened on.

    Raises:
        ConfigError: the address can't be listened on.
    """
    listening = _listen(host, port)
    try:
        options = uvicorn.Config(
            application(store, config, host=host),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        monitor = await start_monitoring(store, config)
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listening.getsockname()[1]}")
        try:
            await uvicorn.Server(options).serve(sockets=[listening])
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
