"""`tenantry serve`: the scrape endpoint and the status page."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.cli.command import command
from tenantry.cli.session import Session
from tenantry.errors import ConfigError

HostOption = Annotated[
    str, typer.Option("--host", help="Address to listen on. The pages name tenants: think first.")
]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")]


async def serve(session: Session, host: HostOption = "127.0.0.1", port: PortOption = 9187) -> None:
    """Serve /metrics and /healthz for programs, and a status page for people, until it is stopped."""
    try:
        from tenantry.server import run
    except ImportError as error:
        raise ConfigError(f"{error.name} is missing: pip install 'tenantry[server]'") from None
    paths = "/ (status), /metrics, /healthz"
    await run.serve(
        session.ops.context.store,
        session.config,
        host=host,
        port=port,
        ready=lambda address: session.out.say(f"serving {paths} on {address}"),
    )


def register(root: typer.Typer) -> None:
    """Add `serve`."""
    command(root, "serve")(serve)
