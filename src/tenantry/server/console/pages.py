"""The console's pages: each path answers with HTML, and with .json behind it as JSON.

The first screen and every list of databases, candidates and findings come from memory. Pages of one tenant or one
move, and lists that may be long, ask the control database a fixed number of queries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from tenantry import __version__
from tenantry.config import resolve_all
from tenantry.errors import TenantryError
from tenantry.operations.context import Context
from tenantry.operations.usage import rule_of
from tenantry.promotion import reasons
from tenantry.runtime.connection_errors import ANY_FAILURE
from tenantry.server.console import details, lists, overview, words
from tenantry.server.console.json_text import plain
from tenantry.server.console.lists import ListColumn
from tenantry.server.console.live import Live
from tenantry.server.console.reading import ConsoleReader
from tenantry.server.console.values import Seen
from tenantry.server.console.verdict import Judgement, command_of, judge, next_commands
from tenantry.server.fleet import Fleet, FleetReader

#: No script but ours, nothing from anywhere else, no frame, no form that leads elsewhere.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
#: Path and label of what stands at the top of every page.
SECTIONS: Final = (
    ("/", "Overview"),
    ("/tenants", "Tenants"),
    ("/candidates", "Candidates"),
    ("/databases", "Databases"),
    ("/moves", "Moves"),
    ("/checks", "Checks"),
    ("/fleet", "Fleet"),
    ("/events", "Events"),
)
TENANTS: Final = (
    ListColumn("id", "tenant", lambda row: row.id),
    ListColumn("name", "name", lambda row: row.name),
    ListColumn("database", "database", lambda row: row.database),
    ListColumn("state", "state", lambda row: row.state),
    ListColumn("plan", "plan"),
    ListColumn("placed", "there since", lambda row: row.placed_at, True),
)
EVENT_KINDS: Final = ("tenant.", "database.", "move.", "backup.", "operator", "migrate.", "token")


@dataclass(frozen=True, slots=True)
class Page:
    """What a path answers."""

    template: str
    title: str
    values: Mapping[str, Any]
    """The page's own: what its JSON has."""
    drawn: Mapping[str, Any] = field(default_factory=dict)
    """What only the HTML has: charts, lists with their links."""
    status: int = 200


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when a page is made."""

    fleet: Fleet
    seen: Seen
    judgement: Judgement
    now: datetime


Make = Callable[[Request, Known], Awaitable[Page]]


class Console:
    """Answers requests for pages. `start` it, and `close` it."""

    def __init__(
        self, context: Context, fleet: FleetReader, reader: ConsoleReader, live: Live, *, restricted: bool
    ) -> None:
        """Args:
        restricted: whether somebody is kept out; the pages say it.
        """
        self._context = context
        self._fleet = fleet
        self._reader = reader
        self._live = live
        self._restricted = restricted
        self._templates = Environment(
            loader=PackageLoader("tenantry.server.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(words.FILTERS)

    @property
    def routes(self) -> list[BaseRoute]:
        """Every path of the console."""
        pages: dict[str, Make] = {
            "/tenants": self._tenants,
            "/tenant": self._tenant,
            "/candidates": self._candidates,
            "/databases": self._databases,
            "/database": self._database,
            "/moves": self._moves,
            "/move": self._move,
            "/checks": self._checks,
            "/fleet": self._fleet_page,
            "/events": self._events,
        }
        found: list[BaseRoute] = [
            Route("/", self._html(self._first)),
            Route("/index.json", self._json(self._first)),
            Route("/live", self._live.stream),
            Mount("/static", StaticFiles(packages=[("tenantry.server.console", "static")])),
        ]
        for path, make in pages.items():
            found += [Route(path, self._html(make)), Route(f"{path}.json", self._json(make))]
        return found

    # -- answering ---------------------------------------------------------------------------------

    async def _known(self) -> Known:
        fleet, seen = await asyncio.gather(self._fleet.read(), self._reader.read())
        now = datetime.now(UTC)
        return Known(fleet, seen, judge(fleet, seen, now), now)

    async def _page(self, make: Make, request: Request) -> tuple[Page, Known]:
        known = await self._known()
        try:
            return await make(request, known), known
        except ANY_FAILURE as error:
            why = str(error) if isinstance(error, TenantryError) else type(error).__name__
            return _missing(f"The control database can't be asked now: {why}.", 503), known

    def _html(self, make: Make) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            page, known = await self._page(make, request)
            html = self._templates.get_template(page.template).render(
                page.values,
                **page.drawn,
                title=page.title,
                fleet=known.fleet,
                seen=known.seen,
                judgement=known.judgement,
                now=known.now,
                threshold=self._context.config.promotion.threshold,
                sections=SECTIONS,
                here=request.url.path,
                json_link=_json_link(request),
                restricted=self._restricted,
                version=__version__,
            )
            return HTMLResponse(html, page.status, HEADERS)

        return answer

    def _json(self, make: Make) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            page, known = await self._page(make, request)
            verdict = {
                "state": known.judgement.state,
                "line": known.judgement.line,
                "troubles": known.judgement.troubles,
                "next": known.judgement.steps,
            }
            body = {"at": known.fleet.at, "error": known.fleet.error, "verdict": verdict, **page.values}
            return JSONResponse(plain(body), page.status, HEADERS)

        return answer

    async def _control(self) -> asyncpg.Pool[asyncpg.Record]:
        return await self._context.store.pool()

    # -- pages -------------------------------------------------------------------------------------

    async def _first(self, _request: Request, known: Known) -> Page:
        config = self._context.config
        loads = overview.loads(known.seen, overview.busiest(known.seen))
        candidates = overview.near(overview.candidate_lines(known.fleet, known.seen))
        databases = overview.database_lines(known.fleet, known.seen, config)
        running, waiting = overview.moves_of(known.fleet, known.now)
        urgent = sorted(databases, key=lambda line: (line.state == "up", line.kind != "shared", line.name))
        return Page(
            "first.html",
            "Overview",
            {
                "tenants": known.fleet.tenants,
                "routers": known.seen.reporting,
                "coverage": known.fleet.numbers.coverage,
                "candidates": candidates[: overview.FEW],
                "running": running,
                "waiting": waiting,
                "lags": known.fleet.numbers.lags,
                "databases": urgent[: overview.FEW],
                "database_count": len(databases),
                "loads": [_told(load) for load in loads],
            },
            {
                "candidate_count": len(candidates),
                "drawn": [(load, overview.draw(load, config.promotion.threshold)) for load in loads],
            },
        )

    async def _tenants(self, request: Request, _known: Known) -> Page:
        of = lists.asked("/tenants", _query(request), TENANTS, default="id")
        rows, more = await details.tenants(await self._control(), of)
        names = [row.name for row in await self._context.store.databases()]
        filters = {
            "database": lists.choices(of, "database", names[:50]),
            "state": lists.choices(of, "state", ("active", "suspended", "removed")),
        }
        shown = lists.listing(of, TENANTS, rows, filters, found=None, more=more)
        return Page("tenants.html", "Tenants", {"tenants": rows, "more": more}, {"list": shown})

    async def _tenant(self, request: Request, known: Known) -> Page:
        wanted = _query(request).get("id", "")
        config = self._context.config
        control = await self._control()
        found = await details.tenant(control, wanted, rule_of(config), known.now.timestamp()) if wanted else None
        if found is None:
            return _missing(f"The directory has no tenant {wanted}.", 404)
        events = await details.events(control, tenant=wanted, most=20)
        values = {
            "tenant": found.row,
            "share_by_day": found.days,
            "verdict": found.verdict and _verdict(found.verdict),
            "storage": found.stored,
            "use": found.used,
            "moves": found.moves,
            "events": events,
            "waiting": {name: n for (name, tenant), n in known.seen.queues.items() if tenant == wanted},
        }
        title = found.row.name or found.row.id
        chart = overview.draw_days(wanted, found.row.database, found.days, config.promotion.threshold)
        return Page("tenant.html", f"Tenant {title}", values, {"chart": chart})

    async def _candidates(self, request: Request, known: Known) -> Page:
        lines = overview.candidate_lines(known.fleet, known.seen)
        shown = overview.list_candidates(lines, _query(request))
        return Page("candidates.html", "Candidates", {"candidates": lines}, {"list": shown})

    async def _databases(self, request: Request, known: Known) -> Page:
        lines = overview.database_lines(known.fleet, known.seen, self._context.config)
        shown = overview.list_databases(lines, _query(request))
        return Page("databases.html", "Databases", {"databases": lines}, {"list": shown})

    async def _database(self, request: Request, known: Known) -> Page:
        wanted = _query(request).get("name", "")
        config = self._context.config
        lines = {line.name: line for line in overview.database_lines(known.fleet, known.seen, config)}
        if wanted not in lines:
            return _missing(f"The directory has no database {wanted}.", 404)
        load = overview.load(known.seen, wanted)
        findings = (
            [one for one in known.seen.checked.findings if one.database == wanted] if known.seen.checked else []
        )
        values = {
            "database": lines[wanted],
            "load": _told(load),
            "findings": findings,
            "moves": [move for move in known.fleet.moves if wanted in (move.source, move.target)],
            "sessions": known.seen.sessions.get(wanted),
        }
        drawn = {"load_of": load, "charts": overview.draw(load, config.promotion.threshold)}
        return Page("database.html", f"Database {wanted}", values, drawn)

    async def _moves(self, request: Request, _known: Known) -> Page:
        rows = await details.moves(await self._control(), _query(request).get("tenant") or None)
        return Page("moves.html", "Moves", {"moves": rows}, {"list": overview.list_moves(rows, _query(request))})

    async def _move(self, request: Request, known: Known) -> Page:
        wanted = _query(request).get("id", "")
        found = await details.move(await self._control(), wanted)
        if found is None:
            return _missing(f"There is no move {wanted}.", 404)
        tables = []
        if found.state == "running":
            databases = resolve_all(self._context.config, await self._context.store.databases())
            tables = await details.copying(databases.get(found.target))
        values = {
            "move": found,
            "seconds": found.seconds,
            "tables": tables,
            "lag": known.fleet.numbers.lags.get(found.tenant) if not found.finished else None,
            "next": next_commands(
                found.state, found.id, complete=found.complete, reversible=found.mechanism != "copy"
            ),
        }
        return Page("move.html", f"Move {wanted}", values, {"steps": found.steps})

    async def _checks(self, request: Request, known: Known) -> Page:
        shown = overview.list_findings(known.seen, _query(request))
        return Page("checks.html", "Checks", {"checked": known.seen.checked}, {"list": shown})

    async def _fleet_page(self, _request: Request, known: Known) -> Page:
        values = {
            "routers": known.seen.routers,
            "coverage": known.fleet.numbers.coverage,
            "waiting": known.seen.queues,
            "watched": sorted(known.seen.sessions),
        }
        return Page("fleet.html", "Fleet", values)

    async def _events(self, request: Request, _known: Known) -> Page:
        query = _query(request)
        before = query.get("before", "")
        number = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
        rows = await details.events(
            await self._control(),
            before=number,
            kind=query.get("kind", ""),
            tenant=query.get("tenant") or None,
            database=query.get("database") or None,
        )
        of = lists.asked("/events", query, (ListColumn("at", "at"),), default="-at")
        older = of.link(before=str(rows[-1].id)) if len(rows) == details.EVENTS else None
        kinds = lists.choices(of, "kind", EVENT_KINDS)
        return Page("events.html", "Events", {"events": rows}, {"older": older, "filters": {"kind": kinds}})


def _query(request: Request) -> dict[str, str]:
    """What an address asks. No text of PostgreSQL's has a NUL: what has one is nobody's id, and finds nothing."""
    return {key: value.replace("\x00", "\ufffd") for key, value in request.query_params.items()}


def _verdict(verdict: Any) -> dict[str, Any]:
    return {
        "action": verdict.action,
        "state": verdict.state,
        "share": verdict.share,
        "streak": verdict.streak,
        "needed": verdict.needed,
        "to_go": verdict.to_go,
        "coverage": verdict.coverage,
        "reasons": reasons(verdict),
        "command": command_of(verdict),
    }


def _told(load: overview.DatabaseLoad) -> dict[str, Any]:
    """A load as JSON has it."""
    return {
        "database": load.database,
        "leaders": load.leaders,
        "hours": load.hours,
        "days": load.days,
        "watched_here": load.watched,
    }


def _missing(what: str, status: int) -> Page:
    return Page("missing.html", "Not here", {"problem": what}, status=status)


def _json_link(request: Request) -> str:
    path = "/index" if request.url.path == "/" else request.url.path
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{path}.json{query}"
