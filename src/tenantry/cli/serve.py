"""`tenantry serve`: the console for people, and what programs scrape."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenantry.cli.command import command
from tenantry.cli.session import Session
from tenantry.errors import ConfigError

HostOption = Annotated[
    str, typer.Option("--host", help="Address to listen on. The pages name tenants: see --token-file.")
]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file", help="Let in who knows the token in this file: as password, or as a Bearer token."
    ),
]
ProxyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-proxy",
        help="Let in what comes from this address or network: your own proxy, which asks people who they are.",
    ),
]


async def serve(
    session: Session,
    host: HostOption = "127.0.0.1",
    port: PortOption = 9187,
    token_file: TokenOption = None,
    trusted_proxy: ProxyOption = None,
) -> None:
    """Serve the console for people, and /metrics and /healthz for programs, until it is stopped.

    It is read-only. Without --token-file and --trusted-proxy everybody who reaches the address may look.
    """
    try:
        from tenantry.server import run
        from tenantry.server.console.access import read_access
    except ImportError as error:
        raise ConfigError(f"{error.name} is missing: pip install 'tenantry[server]'") from None
    access = read_access(token_file, trusted_proxy or ())
    paths = "/ (console), /metrics, /healthz"
    if not access.restricted and host not in ("127.0.0.1", "localhost", "::1"):
        session.out.say(
            "everybody who reaches this address may look; --token-file and --trusted-proxy change that"
        )
    await run.serve(
        session.ops.context,
        host=host,
        port=port,
        access=access,
        ready=lambda address: session.out.say(f"serving {paths} on {address}"),
    )


def register(root: typer.Typer) -> None:
    """Add `serve`."""
    command(root, "serve")(serve)
