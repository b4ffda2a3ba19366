"""The web application: the console for people, /metrics and /healthz for programs. Nothing changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tenantry import metrics
from tenantry.operations.context import Context
from tenantry.server import health
from tenantry.server.console.access import AccessMiddleware, ConsoleAccess
from tenantry.server.console.live import Live
from tenantry.server.console.pages import Console
from tenantry.server.console.reading import ConsoleReader, Sessions
from tenantry.server.fleet import FleetReader
from tenantry.usage.sampler import Activity

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def unwatched() -> Mapping[str, Sequence[Activity]]:
    """Of a process that watches no database."""
    return {}


def application(
    context: Context,
    *,
    host: str,
    access: ConsoleAccess | None = None,
    sessions: Sessions = unwatched,
    stopping: Callable[[], bool] = lambda: False,
) -> Starlette:
    """The application.

    Args:
        context: whose fleet is shown; closed by whoever made it.
        host: the address that is listened on. On the loopback other names in requests are refused, so that no
            web page can read this one by a name of its own (DNS rebinding). Where a token is asked for, a page
            has none to show; a proxy passes on its own names, and whoever shares its address is let in by design.
        access: who may look; None: everybody who reaches the address.
        sessions: who is in the databases that this process watches.
        stopping: whether the server wants to end: streams of news end then.
    """
    access = access or ConsoleAccess()
    fleet = FleetReader(context.store, context.config)
    reader = ConsoleReader(context, sessions=sessions, named=fleet.shown)
    console = Console(context, fleet, reader, Live(reader, stopping), restricted=access.restricted)
    scrape = metrics.FleetScrape()

    async def exposition(_request: Request) -> Response:
        """The fleet's view, for Prometheus."""
        content_type, text = scrape.exposition((await fleet.read()).numbers)
        return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    async def healthz(_request: Request) -> Response:
        """200 while the control database answers, 503 while it doesn't."""
        found = await health.examine(context.store, context.config)
        return JSONResponse(found.as_json(), 200 if found.ok else 503, headers={"Cache-Control": "no-store"})

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        """Reads while the application runs."""
        fleet.start()
        reader.start()
        try:
            yield
        finally:
            await reader.close()
            await fleet.close()

    ours = host in LOOPBACK and not access.restricted
    hosts = ["127.0.0.1", "localhost", "::1", "[::1]"] if ours else ["*"]
    return Starlette(
        routes=[Route("/metrics", exposition), Route("/healthz", healthz), *console.routes],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
            Middleware(AccessMiddleware, access=access),
        ],
        lifespan=lifespan,
    )
