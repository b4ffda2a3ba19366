"""The web application: three pages, and nothing that changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tenantry import __version__, metrics
from tenantry.config import Config
from tenantry.directory import Store
from tenantry.server import health, page
from tenantry.server.fleet import FleetReader

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
#: The page has no script, no font and no picture from anywhere.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def application(store: Store, config: Config, *, host: str) -> Starlette:
    """The application.

    Args:
        store: the directory's; closed by whoever made it.
        host: the address that is listened on. On the loopback other names in requests are refused, so that no
            web page can read this one by a name of its own (DNS rebinding).
    """
    service = _Service(store, config)
    hosts = ["127.0.0.1", "localhost", "::1", "[::1]"] if host in LOOPBACK else ["*"]
    return Starlette(
        routes=[
            Route("/", service.status),
            Route("/metrics", service.metrics),
            Route("/healthz", service.healthz),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        lifespan=service.lifespan,
    )


class _Service:
    """Answers requests."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config
        self._reader = FleetReader(store, config)
        self._scrape = metrics.FleetScrape()
        templates = Environment(
            loader=PackageLoader("tenantry.server"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        templates.filters.update(page.FILTERS)
        self._page = templates.get_template("status.html")

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Reads the fleet while the application runs."""
        self._reader.start()
        try:
            yield
        finally:
            await self._reader.close()

    async def status(self, _request: Request) -> Response:
        """The page for people."""
        fleet = await self._reader.read()
        html = self._page.render(
            fleet=fleet,
            witness=page.witness_rows(fleet.sampled_sessions),
            threshold=self._config.promotion.threshold,
            version=__version__,
        )
        return HTMLResponse(html, headers=_HEADERS)

    async def metrics(self, _request: Request) -> Response:
        """The fleet's view, for Prometheus."""
        fleet = await self._reader.read()
        content_type, text = self._scrape.exposition(fleet.numbers)
        return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    async def healthz(self, _request: Request) -> Response:
        """200 while the control database answers, 503 while it doesn't."""
        found = await health.examine(self._store, self._config)
        return JSONResponse(found.as_json(), 200 if found.ok else 503, headers={"Cache-Control": "no-store"})
