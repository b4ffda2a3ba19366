"""Prepared fleets for the console, as values: what it would have read of them. And the console over one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, cast

from starlette.applications import Starlette

from tenantry.config import Config
from tenantry.ids import Kind
from tenantry.metrics import FleetNumbers
from tenantry.operations.check import CheckFinding
from tenantry.operations.context import Context
from tenantry.promotion import PromotionRule, Verdict, judge, reasons
from tenantry.server.console.live import Live
from tenantry.server.console.pages import Console
from tenantry.server.console.values import Checked, Probe, ReportingRouter, SchemaState, Seen, Slot
from tenantry.server.fleet import DatabaseState, Fleet, MoveRow
from tenantry.usage.values import Day, History

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
HEAVY = "heavy"
UP = Probe(None, "18.1", 52_000_000_000, 41, 200, False, None)


class Prepared(NamedTuple):
    """What the console would have read."""

    fleet: Fleet
    seen: Seen


class _Fixed:
    def __init__(self, value: Any) -> None:
        self._value = value

    async def read(self) -> Any:
        return self._value


def console(of: Prepared, *, restricted: bool = False) -> Starlette:
    """The console over what was prepared. Pages that ask the control database find none."""
    config = Config.parse(
        {
            "tenancy": {"type": "text"},
            "control": {"dsn": "postgresql://nobody@127.0.0.1:1/control"},
            "databases": {"shared": {"kind": "shared", "dsn": "postgresql://nobody@127.0.0.1:1/shared"}},
        },
        source="a prepared fleet",
    )
    context = Context(config, "a test")
    context.enter()
    fixed = cast("Any", _Fixed(of.seen))
    made = Console(context, cast("Any", _Fixed(of.fleet)), fixed, Live(fixed, lambda: True), restricted=restricted)
    return Starlette(routes=made.routes)


def slots(length: timedelta, count: int, share: Callable[[int], float]) -> list[Slot]:
    """The last `count` hours or days, of which `share` is the heavy tenant's."""
    found = []
    for n in range(count):
        heavy = share(n)
        parts = {HEAVY: heavy, "acme": (1 - heavy) * 0.4, "birch": (1 - heavy) * 0.2}
        begin = NOW - length * (count - 1 - n)
        found.append(Slot(begin, parts, (1 - heavy) * 0.3, (1 - heavy) * 0.1, 1800.0, 2.0, 4000, n % 3))
    return found


def verdict(share: float, days: int = 14) -> Verdict:
    """What the rule says of a tenant with that share on each of the last days."""
    first = date(2026, 11, 27) - timedelta(days=14)
    known = {
        first + timedelta(days=n): Day(
            first + timedelta(days=n), share * 1e4 if n >= 14 - days else 100.0, 1e4, 1.0
        )
        for n in range(14)
    }
    return judge(PromotionRule(), History(HEAVY, "shared", Kind.SHARED, None, known), date(2026, 11, 27))


def well(share: float = 0.3) -> Prepared:
    """All is well, and nobody has outgrown anything."""
    databases = (DatabaseState("shared", "shared", 400, 2), DatabaseState("acme", "dedicated", 1, 0))
    told = (verdict(share),) if share > 0.4 else ()
    numbers = FleetNumbers(
        up=True,
        coverage=1.0,
        candidates=frozenset({HEAVY} if told else ()),
        backups={"shared": 3600.0},
        backups_every={"shared": 86_400.0},
    )
    fleet = Fleet(
        at=NOW,
        databases=databases,
        verdicts=told,
        reasons={one.tenant: reasons(one) for one in told},
        numbers=numbers,
    )
    hours, days = (slots(step, count, lambda n: share) for step, count in ((HOUR, 25), (DAY, 28)))
    seen = Seen(
        at=NOW,
        hours={"shared": hours},
        days={"shared": days},
        names={HEAVY: "Heavy Industries"},
        routers=(ReportingRouter("9d4b1c52-77a1-4c1e-8f53-9a7a3e0b6c11", NOW - DAY, NOW, None),),
        probes={"shared": UP, "acme": UP},
        checked=Checked(NOW, (), {"shared": SchemaState(9, False), "acme": SchemaState(9, False)}),
    )
    return Prepared(fleet, seen)


def outgrown() -> Prepared:
    """A tenant has outgrown the shared database, and a move that is complete waits for its release."""
    fleet, seen = well(0.6)
    move = MoveRow("m00000000aa", "acme", "shared", "acme", "flipped", "audit", None, NOW - DAY, False)
    return Prepared(changed(fleet, moves=(move,)), seen)


def broken() -> Prepared:
    """A database does not answer, a move has stopped, a backup is overdue, and a schema has drifted."""
    fleet, seen = well()
    move = MoveRow("m00000000bb", "birch", "shared", "birch", "running", "copy", "connection lost", NOW, False)
    late = fleet.numbers._replace(backups={"shared": 3 * 86_400.0})
    drift = CheckFinding("acme", "error", "schema-drift", "its schema is another one than shared's", "migrate it")
    return Prepared(
        changed(fleet, moves=(move,), numbers=late),
        changed(
            seen,
            probes={"shared": UP, "acme": Probe(error="ConnectionRefusedError")},
            checked=Checked(NOW, (drift,)),
        ),
    )


def away() -> Prepared:
    """The control database can't be read; what was known before is still shown."""
    fleet, seen = outgrown()
    return Prepared(changed(fleet, error="ConnectionRefusedError", numbers=FleetNumbers()), seen)


def huge() -> Prepared:
    """Hundreds of databases, 100,000 tenants."""
    fleet, seen = outgrown()
    names = [f"customer-{n:04}" for n in range(800)]
    databases = (*fleet.databases, *(DatabaseState(name, "dedicated", 1, 0) for name in names))
    many = (DatabaseState("shared", "shared", 100_000, 12), *databases[1:])
    history = {"shared": seen.hours["shared"], **dict.fromkeys(names[:200], seen.hours["shared"])}
    return Prepared(
        changed(fleet, databases=many),
        changed(seen, hours=history, probes={name: UP for name, *_ in many}),
    )


def empty() -> Prepared:
    """Just installed: nothing is there yet."""
    seen = Seen(at=NOW, probes={}, checked=Checked(NOW))
    return Prepared(Fleet(at=NOW, numbers=FleetNumbers(up=True, coverage=0.0)), seen)


def changed(value: Any, **changes: Any) -> Any:
    """The same with some fields changed."""
    return replace(value, **changes)
