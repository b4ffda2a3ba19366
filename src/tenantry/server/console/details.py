"""What single pages ask of the control database: one tenant, one move, some events. A few queries each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg

from tenantry import sql
from tenantry.config import ResolvedDatabase
from tenantry.promotion import PromotionRule, Verdict, judge, span
from tenantry.runtime.connection_errors import ANY_FAILURE
from tenantry.server.console.lists import PAGE, Asked
from tenantry.server.console.reading import ask
from tenantry.usage import shares
from tenantry.usage.values import Day

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

#: Moves that are listed at most: a move is a rare thing.
MOST: Final = 1000
EVENTS: Final = 50
#: Steps of a move, in their order, for people who watch one.
STEPS: Final = (
    "prepare_target",
    "set_identities",
    "publish",
    "copy",
    "build_indexes",
    "catch_up",
    "prepare_reverse",
    "verify",
    "flip",
    "finalize",
    "audit",
)


class DirectoryEntry(NamedTuple):
    """A tenant, as the directory has it."""

    id: str
    name: str | None
    database: str
    kind: str
    epoch: int
    state: str
    plan: str | None
    weight: float
    limits: Mapping[str, Any]
    created_at: datetime
    placed_at: datetime


class TenantLine(NamedTuple):
    """A tenant, in a list."""

    id: str
    name: str | None
    database: str
    kind: str
    state: str
    plan: str | None
    placed_at: datetime


class StoredBytes(NamedTuple):
    """What a tenant's rows take in one database, estimated."""

    database: str
    day: Any
    bytes: int


class MoveLine(NamedTuple):
    """A move, in a list."""

    id: str
    tenant: str
    source: str
    target: str
    state: str
    step: str | None
    error: str | None
    created_at: datetime
    changed_at: datetime
    finished: bool
    pause: float | None
    """Seconds for which the tenant's clients waited at the flip."""


class EventLine(NamedTuple):
    """Something that somebody did."""

    id: int
    at: datetime
    kind: str
    actor: str
    tenant: str | None
    database: str | None
    reason: str | None
    detail: Mapping[str, Any]


class TenantSheet(NamedTuple):
    """All that its page shows."""

    row: DirectoryEntry
    days: Sequence[Day]
    """Of its present home, the oldest first."""
    verdict: Verdict | None
    stored: Sequence[StoredBytes]
    moves: Sequence[MoveLine]
    used: Any
    """`shares.Used` summed over the days."""


class MoveSheet(NamedTuple):
    """All that its page shows."""

    id: str
    tenant: str
    source: str
    target: str
    state: str
    step: str | None
    error: str | None
    created_at: datetime
    changed_at: datetime
    flipped_at: datetime | None
    ended_at: datetime | None
    result: Mapping[str, Any]
    mechanism: str | None
    finished: bool

    @property
    def seconds(self) -> Mapping[str, float]:
        """How long each step took."""
        found: Mapping[str, float] = self.result.get("seconds") or {}
        return found

    @property
    def complete(self) -> bool:
        """All its steps are done."""
        return self.step == ("finalize" if self.mechanism == "copy" else "audit")

    @property
    def steps(self) -> list[tuple[str, str, float | None]]:
        """Each step, whether it is "done", "next" or "to come", and the seconds that it took."""
        order = [*STEPS, *(name for name in self.seconds if name not in STEPS)]
        if self.mechanism == "copy":  # has steps of its own: those that were journalled are known
            order = list(self.seconds) or list(STEPS)
        reached = order.index(self.step) if self.step in order else -1
        told: list[tuple[str, str, float | None]] = []
        for n, name in enumerate(order):
            state = "done" if n <= reached else "next" if n == reached + 1 and not self.finished else "to come"
            told.append((name, state, self.seconds.get(name)))
        return told

    @property
    def differences(self) -> Sequence[str]:
        """That its audit found."""
        found: Sequence[str] = self.result.get("differences") or ()
        return found

    @property
    def figures(self) -> Mapping[str, Any]:
        """What it measured, by name, without the steps' seconds."""
        return {
            name: value
            for name, value in self.result.items()
            if value is not None and name not in ("seconds", "differences") and not name.startswith("kits_")
        }


class Copying(NamedTuple):
    """A table that is being copied."""

    table: str
    rows: int
    bytes: int


async def tenant(control: Pool, id: str, rule: PromotionRule, now: float) -> TenantSheet | None:
    """One tenant; None: the directory has none of that id."""
    found = await control.fetchrow(sql.query("server/tenant"), id)
    if found is None:
        return None
    row = DirectoryEntry(**{**found, "limits": _object(found["limits"])})
    today = datetime.fromtimestamp(now, UTC).date()
    first = min(span(rule, today)[0], today - timedelta(days=27))
    loaded = await shares.load(control, first, today + timedelta(days=1), tenants=[id])
    verdict = judge(rule, loaded.history(id), today) if id in loaded.homes else None
    days = list(loaded.days(id, row.database).values())
    uses = [use for (_, database, _, _), use in loaded.used.items() if database == row.database]
    used = shares.Used(*map(sum, zip(*uses, strict=True))) if uses else None
    stored = [StoredBytes(*each.values()) for each in await control.fetch(sql.query("server/stored"), id)]
    return TenantSheet(row, days, verdict, stored, await moves(control, id), used)


async def tenants(control: Pool, of: Asked) -> tuple[list[TenantLine], bool]:
    """A page of the tenants, and whether another one follows."""
    rows = await control.fetch(
        sql.query("server/tenants"),
        of.search,
        of.query.get("database") or None,
        of.query.get("state") or None,
        of.sort,
        of.down,
        PAGE + 1,
        of.page * PAGE,
        timeout=shares.LONG,
    )
    return [TenantLine(*row.values()) for row in rows[:PAGE]], len(rows) > PAGE


async def moves(control: Pool, tenant: str | None = None) -> list[MoveLine]:
    """Moves, unfinished ones first."""
    rows = await control.fetch(sql.query("server/all_moves"), tenant, MOST)
    return [MoveLine(**{**row, "pause": float(row["pause"]) if row["pause"] else None}) for row in rows]


async def move(control: Pool, id: str) -> MoveSheet | None:
    """One move; None: there is none of that id."""
    row = await control.fetchrow(sql.query("server/move"), id)
    return None if row is None else MoveSheet(**{**row, "result": _object(row["result"])})


async def events(
    control: Pool,
    *,
    before: int | None = None,
    kind: str = "",
    tenant: str | None = None,
    database: str | None = None,
    most: int = EVENTS,
) -> list[EventLine]:
    """Who did what, the newest first."""
    rows = await control.fetch(sql.query("server/events"), before, kind, tenant, database, most)
    return [EventLine(**{**row, "detail": _object(row["detail"])}) for row in rows]


async def copying(target: ResolvedDatabase | None) -> list[Copying]:
    """Tables that are being copied into a move's target; none where it can't be asked."""
    dsn = target.best_dsn if target is not None else None
    if dsn is None:
        return []
    with suppress(ValueError, *ANY_FAILURE):
        return [Copying(*row.values()) for row in await ask(dsn, "server/copying")]
    return []


def _object(text: Any) -> Mapping[str, Any]:
    found = json.loads(text) if isinstance(text, str) else text
    return found if isinstance(found, dict) else {}
