"""Reads what the control database knows of the fleet: for a scrape, and for the page.

Asked often, it reads seldom: answers are kept for a moment, and however many ask, one reads. When the control
database is away, the last answer is given and says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg

from tenantry import sql
from tenantry.config import Config
from tenantry.directory import Store
from tenantry.errors import TenantryError
from tenantry.metrics import FleetNumbers
from tenantry.promotion import Action, Bucket, Rule, State, Verdict, reasons, span, verdicts
from tenantry.server.lag import Following, lags
from tenantry.usage import shares, upkeep
from tenantry.usage.sampler import Witnessed, witnessed
from tenantry.usage.view import FleetView

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

logger = logging.getLogger("tenantry")

#: Seconds for which an answer is good: two scrapers and a browser cost one reading.
FRESH: Final = 1.0
#: Seconds between two judgements of the rule: it looks at whole days.
JUDGE: Final = 60.0
#: Rows of each table of the page.
MOST: Final = 50
HOUR: Final = 3600.0
DAY: Final = 86_400.0

_AWAY: Final = (TenantryError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class MoveRow(NamedTuple):
    """A move, for the page."""

    id: str
    tenant: str
    source: str
    target: str
    state: str
    step: str | None
    error: str | None
    changed_at: datetime
    finished: bool


class DatabaseState(NamedTuple):
    """A database, for the page."""

    name: str
    kind: str
    tenants: int
    suspended: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """What was read, and when."""

    at: datetime | None = None
    """None: nothing has been read yet."""
    error: str | None = None
    """Why the last attempt to read failed; None: it did not."""
    databases: tuple[DatabaseState, ...] = ()
    moves: tuple[MoveRow, ...] = ()
    """Unfinished ones first, then the newest."""
    verdicts: tuple[Verdict, ...] = ()
    """Those that are not simply "not"."""
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By tenant, in words."""
    witnessed: Mapping[str, Witnessed] = field(default_factory=dict)
    """By database, of the last hour and this one; empty: nobody samples."""
    numbers: FleetNumbers = field(default_factory=FleetNumbers)

    @property
    def tenants(self) -> int:
        """How many there are."""
        return sum(one.tenants for one in self.databases)


class FleetReader:
    """Reads the fleet when asked. `read` never raises for a control database that is away."""

    # Mutable state: _fleet (the last answer), _read_at and _judged_at (of the monotonic clock), _judged (the last
    # verdicts and shares), _view (the counters). Changed under _reading only.

    def __init__(
        self,
        store: Store,
        config: Config,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        clock: seconds since 1970 UTC.
        """
        self._store = store
        self._config = config
        self._clock = clock
        self._monotonic = monotonic
        self._rule = rule_of(config)
        kept = config.usage
        self._retention = upkeep.Retention(hours=round(kept.hours / DAY), days=round(kept.days / DAY))
        self._view = FleetView(top=config.metrics.top)
        self._fleet = Fleet()
        self._read_at = self._judged_at = float("-inf")
        self._judged: tuple[tuple[Verdict, ...], Mapping[tuple[str, str], float]] = ((), {})
        self._reading = asyncio.Lock()

    async def read(self) -> Fleet:
        """The fleet as it is, at most a second old while the control database answers."""
        async with self._reading:
            if self._monotonic() - self._read_at >= FRESH:
                try:
                    self._fleet = await self._look(await self._store.pool())
                except _AWAY as error:
                    logger.warning("the control database can't be read: %s", type(error).__name__)
                    numbers = self._fleet.numbers
                    away = FleetNumbers(uses=numbers.uses, busy=numbers.busy)
                    self._fleet = replace(self._fleet, error=_words(error), numbers=away)
                self._read_at = self._monotonic()
            return self._fleet

    async def _look(self, control: Pool) -> Fleet:
        databases = await _databases(control)
        moves = tuple(MoveRow(*row.values()) for row in await control.fetch(sql.query("server/moves"), MOST))
        now = self._clock()
        await self._view.refresh(control, now)
        if self._monotonic() - self._judged_at >= JUDGE:
            self._judged = await self._judge(control, now)
            self._judged_at = self._monotonic()
        judged, _ = self._judged
        hour = now // HOUR * HOUR
        return Fleet(
            at=datetime.fromtimestamp(now, UTC),
            databases=databases,
            moves=moves,
            verdicts=judged,
            reasons={verdict.tenant: reasons(verdict) for verdict in judged},
            witnessed=await witnessed(control, hour - HOUR, hour + HOUR),
            numbers=self._numbers(databases, moves)._replace(
                lags=await lags(self._config, map(_following, (move for move in moves if not move.finished))),
                pauses=tuple(row["pause"] for row in await control.fetch(sql.query("server/pauses"))),
            ),
        )

    async def _judge(self, control: Pool, now: float) -> Any:
        """The verdicts worth telling, and the shares of the last complete bucket."""
        today = datetime.fromtimestamp(now, UTC).date()
        await upkeep.keep_up(control, now, self._retention)
        top = self._config.metrics.top
        loaded = await shares.load(control, *span(self._rule, today), top=top)
        all_ = verdicts(self._rule, loaded, today)
        told = tuple(verdict for verdict in all_ if verdict.state is not State.NOT)
        last = {(v.tenant, v.database): v.share for v in all_ if v.share is not None}
        return told, last

    def _numbers(self, databases: tuple[DatabaseState, ...], moves: tuple[MoveRow, ...]) -> FleetNumbers:
        judged, last = self._judged
        promoting = [verdict for verdict in judged if verdict.action is Action.PROMOTE]
        named = self._view.labels | {verdict.tenant for verdict in promoting}
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for one in databases:
            counts[one.name, "active"] = one.tenants - one.suspended
            counts[one.name, "suspended"] = one.suspended
        days = self._rule.bucket.days
        return FleetNumbers(
            up=True,
            uses={
                key: (c.busy, c.waited, {"commit": c.commits, "rollback": c.rollbacks, "error": c.errors})
                for key, c in self._view.tenants().items()
            },
            busy=dict(self._view.databases()),
            coverage=self._view.coverage,
            shares={key: share for key, share in last.items() if key[0] in named},
            streaks={verdict.tenant: verdict.streak * days for verdict in promoting},
            candidates=frozenset(v.tenant for v in promoting if v.state is State.CANDIDATE),
            tenants=dict(counts),
            moves={move.tenant: move.step or move.state for move in moves if not move.finished},
        )


def _following(move: MoveRow) -> Following:
    flipped = move.state in ("flipped", "rolling_back", "releasing")
    home, direction = (move.target, "back") if flipped else (move.source, "out")
    return Following(move.id, move.tenant, home, direction)


def rule_of(config: Config) -> Rule:
    """The configured rule."""
    rule = config.promotion
    return Rule(
        threshold=rule.threshold,
        window=round(rule.window / 86_400),
        bucket=Bucket(rule.bucket),
        coverage=rule.coverage,
        floor=rule.floor,
        demote=rule.demote_below,
    )


async def _databases(control: Pool) -> tuple[DatabaseState, ...]:
    rows = await control.fetch(sql.query("server/databases"))
    return tuple(DatabaseState(*row.values()) for row in rows)


def _words(error: BaseException) -> str:
    """Never the driver's own words: the page is read by more people than the log."""
    return str(error) if isinstance(error, TenantryError) else type(error).__name__
