"""What the pages show from memory: the first screen, and the lists of databases, candidates and findings.

Pure: what was read in, rows and charts out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from tenantry.config import Config
from tenantry.promotion import Candidacy, Verdict
from tenantry.server.console import charts
from tenantry.server.console.history import largest, together
from tenantry.server.console.lists import ListColumn, Listing, arrange
from tenantry.server.console.values import NAMED, Probe, SchemaState, Seen, Slot
from tenantry.server.console.verdict import command_of, waits_for_release
from tenantry.server.fleet import Fleet, MoveRow
from tenantry.usage.values import Day

#: Databases whose load stands on the first screen, and rows of each of its tables.
CHARTS: Final = 4
FEW: Final = 12
#: Tenants in the tables beside the charts.
LEADERS: Final = 5


class DatabaseLine(NamedTuple):
    """A database, in a table."""

    name: str
    kind: str
    state: str
    """"up", "standby", "away", "not known here" or "not asked yet"."""
    why: str | None
    tenants: int
    suspended: int
    version: str | None
    bytes: int | None
    connections: int | None
    allowed: int | None
    budget: int | None
    """That the routers that report may open together; None: no router reports."""
    lag: int | None
    schema: int | None
    drift: bool
    backup_age: float | None
    """Seconds; infinite: there was none; None: it has no policy."""
    backup_every: float | None
    load: float | None
    """Busy seconds of the last 24 hours."""


class Leader(NamedTuple):
    """A tenant's part of a database's load."""

    tenant: str
    """"" for what is no tenant's."""
    name: str | None
    hour: float | None
    day: float | None
    weeks: float | None
    now: int | None
    """Active sessions; None: this process does not watch the database."""
    waiting: int


class DatabaseLoad(NamedTuple):
    """Who loads one database."""

    database: str
    tenants: Sequence[str]
    """With a colour, the largest first."""
    leaders: Sequence[Leader]
    hours: Sequence[Slot]
    days: Sequence[Slot]
    watched: bool


class CandidateLine(NamedTuple):
    """What the rule says of a tenant."""

    tenant: str
    name: str | None
    database: str
    action: str
    state: str
    share: float | None
    streak: int
    needed: int
    to_go: int
    reasons: tuple[str, ...]
    command: str


def database_lines(fleet: Fleet, seen: Seen, config: Config) -> list[DatabaseLine]:
    """Every database of the directory."""
    numbers, schemas = fleet.numbers, seen.checked.schemas if seen.checked else {}
    return [_line(one, seen, config, numbers, schemas.get(one.name)) for one in fleet.databases]


def _line(one: Any, seen: Seen, config: Config, numbers: Any, schema: SchemaState | None) -> DatabaseLine:
    probe = (seen.probes or {}).get(one.name)
    state, why = _state(probe)
    section = config.databases.get(one.name)
    known = probe or Probe()
    busy = [slot.busy for slot in seen.hours.get(one.name, ()) if slot.busy is not None]
    return DatabaseLine(
        one.name,
        one.kind,
        state,
        why,
        one.tenants,
        one.suspended,
        known.version,
        known.bytes,
        known.connections,
        known.allowed,
        (section.pool.max if section else 20) * seen.reporting or None,
        known.lag,
        schema.version if schema else None,
        schema.drift if schema else False,
        numbers.backups.get(one.name),
        numbers.backups_every.get(one.name),
        sum(busy) if busy else None,
    )


def _state(probe: Probe | None) -> tuple[str, str | None]:
    if probe is None:
        return "not asked yet", None
    if probe.error is not None:
        return ("not known here" if probe.unknown else "away"), probe.error
    return ("standby" if probe.standby else "up"), None


def loads(seen: Seen, names: Iterable[str]) -> list[DatabaseLoad]:
    """The load of some databases."""
    return [load(seen, name) for name in names]


def busiest(seen: Seen, count: int = CHARTS) -> list[str]:
    """The databases with the most busy seconds of the last day, or else of the four weeks."""
    busy: dict[str, tuple[float, float]] = {}
    for name in {*seen.hours, *seen.days}:
        sums = [sum(slot.busy or 0.0 for slot in slots.get(name, ())) for slots in (seen.hours, seen.days)]
        busy[name] = (sums[0], sums[1])
    return sorted(busy, key=lambda name: (-busy[name][0], -busy[name][1], name))[:count]


def load(seen: Seen, name: str) -> DatabaseLoad:
    """The load of one database: who it is, now and over the last hour, day and four weeks."""
    hours, days = seen.hours.get(name, ()), seen.days.get(name, ())
    hour, day, weeks = together(hours[-2:]), together(hours), together(days)
    watched = name in seen.sessions
    now: dict[str, int] = {}
    for some in seen.sessions.get(name, ()):
        if some.active:
            now[some.tenant] = now.get(some.tenant, 0) + some.sessions
    waiting = {tenant: callers for (database, tenant), callers in seen.queues.items() if database == name}
    found = dict.fromkeys([*largest(hours, LEADERS), *largest(days, LEADERS)])
    for more in (waiting, now):
        found.update(dict.fromkeys(sorted((t for t in more if t), key=lambda t: -more[t])[:LEADERS]))
    leaders = [
        Leader(
            tenant,
            seen.names.get(tenant),
            _part(hour, tenant),
            _part(day, tenant),
            _part(weeks, tenant),
            now.get(tenant, 0) if watched else None,
            waiting.get(tenant, 0),
        )
        for tenant in [*found, ""]
    ]
    leaders[:-1] = sorted(leaders[:-1], key=lambda one: -(one.day or one.weeks or 0.0))
    coloured = sorted(
        {*largest(hours), *largest(days)},
        key=lambda tenant: (-max(_part(day, tenant) or 0.0, _part(weeks, tenant) or 0.0), tenant),
    )
    return DatabaseLoad(name, coloured[:NAMED], leaders, hours, days, watched)


def _part(whole: Slot | None, tenant: str) -> float | None:
    if whole is None or not whole.busy:
        return None
    return whole.parts.get(tenant, 0.0) if tenant else whole.nobodys


def draw(of: DatabaseLoad, threshold: float) -> dict[str, Markup]:
    """The charts of one database's load: "hour", "day", "weeks", "wait" and "errors"."""
    hours, days = of.hours, of.days
    now = together(hours[-2:])
    drawn = {
        "hour": Markup(""),
        "day": charts.columns(
            hours,
            of.tenants,
            threshold=threshold,
            title=f"{of.database}, shares by hour over 24 hours: {charts.summary(hours)}",
            label="%H:%M",
        ),
        "weeks": charts.columns(
            days,
            of.tenants,
            threshold=threshold,
            title=f"{of.database}, shares by day over four weeks: {charts.summary(days)}",
            label="%d %b",
        ),
        "wait": charts.line([slot.wait for slot in hours], title=f"{of.database}: mean wait by hour"),
        "errors": charts.line([float(slot.errors) for slot in hours], title=f"{of.database}: errors by hour"),
    }
    if now is not None:
        title = f"{of.database}, this hour and the last: {charts.summary(hours[-2:])}"
        drawn["hour"] = charts.bar(now, of.tenants, threshold=threshold, title=title)
    return drawn


def draw_days(tenant: str, database: str, days: Sequence[Day], threshold: float) -> Markup:
    """One tenant's shares of its database by day."""
    slots = []
    for one in days:
        begin = datetime(one.day.year, one.day.month, one.day.day, tzinfo=UTC)
        parts = {tenant: one.busy / one.total} if one.total else {}
        slots.append(Slot(begin, parts, 0.0, 0.0, one.total))
    title = f"Share of {database} by day: {charts.summary(slots)}"
    return charts.columns(slots, [tenant], threshold=threshold, title=title, label="%d %b")


def candidate_lines(fleet: Fleet, seen: Seen) -> list[CandidateLine]:
    """Every verdict that is worth telling."""
    return [_candidate(verdict, fleet, seen) for verdict in fleet.verdicts]


def near(lines: Sequence[CandidateLine]) -> list[CandidateLine]:
    """Those that the first screen shows: candidates, and who is on the way."""
    return [line for line in lines if line.state in (Candidacy.CANDIDATE, Candidacy.BUILDING) or line.streak]


def _candidate(verdict: Verdict, fleet: Fleet, seen: Seen) -> CandidateLine:
    return CandidateLine(
        verdict.tenant,
        seen.names.get(verdict.tenant),
        verdict.database,
        verdict.action.value,
        verdict.state.value,
        verdict.share,
        verdict.streak,
        verdict.needed,
        verdict.to_go,
        tuple(fleet.reasons.get(verdict.tenant, ())),
        command_of(verdict),
    )


def moves_of(fleet: Fleet, now: datetime) -> tuple[list[MoveRow], list[MoveRow]]:
    """Moves that run (or have stopped), and those that wait for their release."""
    unfinished = [move for move in fleet.moves if not move.finished]
    waiting = [move for move in unfinished if waits_for_release(move)]
    return [move for move in unfinished if move not in waiting], waiting


DATABASES: Final = (
    ListColumn("name", "name", lambda row: row.name),
    ListColumn("kind", "kind", lambda row: row.kind),
    ListColumn("state", "state", lambda row: row.state),
    ListColumn("version", "version", lambda row: row.version),
    ListColumn("tenants", "tenants", lambda row: row.tenants, True),
    ListColumn("size", "size", lambda row: row.bytes, True),
    ListColumn("connections", "connections", lambda row: row.connections, True),
    ListColumn("lag", "standby lag", lambda row: row.lag, True),
    ListColumn("schema", "schema", lambda row: row.schema, True),
    ListColumn("backup", "last backup", lambda row: row.backup_age, True),
    ListColumn("load", "busy, 24 h", lambda row: row.load, True),
)


def list_databases(lines: Sequence[DatabaseLine], query: Mapping[str, str]) -> Listing:
    """The list of databases."""
    return arrange(
        "/databases",
        query,
        lines,
        DATABASES,
        default="name",
        filters={"kind": lambda row: row.kind, "state": lambda row: row.state},
        text=lambda row: row.name,
    )


CANDIDATES: Final = (
    ListColumn("tenant", "tenant", lambda row: row.tenant),
    ListColumn("database", "database", lambda row: row.database),
    ListColumn("share", "last share", lambda row: row.share, True),
    ListColumn("state", "verdict", lambda row: row.state),
    ListColumn("streak", "days in a row", lambda row: row.streak, True),
    ListColumn("togo", "days to go", lambda row: row.to_go, True),
    ListColumn("why", "why"),
)


def list_candidates(lines: Sequence[CandidateLine], query: Mapping[str, str]) -> Listing:
    """The list of the rule's verdicts."""
    return arrange(
        "/candidates",
        query,
        lines,
        CANDIDATES,
        default="togo",
        filters={"state": lambda row: row.state, "database": lambda row: row.database},
        text=lambda row: f"{row.tenant} {row.name or ''}",
    )


FINDINGS: Final = (
    ListColumn("severity", "severity", lambda row: row.severity),
    ListColumn("code", "code", lambda row: row.code),
    ListColumn("database", "database", lambda row: row.database),
    ListColumn("problem", "problem"),
    ListColumn("fix", "what mends it"),
)


def list_findings(seen: Seen, query: Mapping[str, str]) -> Listing:
    """The list of what `tenantry check` found."""
    return arrange(
        "/checks",
        query,
        seen.checked.findings if seen.checked else (),
        FINDINGS,
        default="severity",
        filters={"severity": lambda row: row.severity, "code": lambda row: row.code},
        text=lambda row: f"{row.database} {row.code} {row.problem}",
    )


MOVES: Final = (
    ListColumn("id", "move", lambda row: row.id),
    ListColumn("tenant", "tenant", lambda row: row.tenant),
    ListColumn("source", "from", lambda row: row.source),
    ListColumn("target", "to", lambda row: row.target),
    ListColumn("state", "state", lambda row: row.state),
    ListColumn("step", "last step", lambda row: row.step),
    ListColumn("pause", "pause", lambda row: row.pause, True),
    ListColumn("changed", "changed", lambda row: row.changed_at, True),
)


def list_moves(rows: Sequence[Any], query: Mapping[str, str]) -> Listing:
    """The list of moves."""
    return arrange(
        "/moves",
        query,
        rows,
        MOVES,
        default="-changed",
        filters={"state": lambda row: row.state},
        text=lambda row: f"{row.id} {row.tenant} {row.source} {row.target}",
    )
