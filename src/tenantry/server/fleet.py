"""Reads what the control database knows of the fleet: for a scrape, and for the page.

It reads in the background, every few seconds while somebody asks, so whoever asks waits for no query, however many
tenants there are. When the control database is away, the last answer is given and says so.
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
from tenantry.config import Config, resolve_all
from tenantry.directory import Store
from tenantry.errors import TenantryError
from tenantry.metrics import FleetNumbers
from tenantry.operations.backups import measure, policies
from tenantry.operations.usage import rule_of
from tenantry.promotion import Action, Candidacy, Verdict, reasons, span, verdicts
from tenantry.runtime.connection_errors import ANY_FAILURE
from tenantry.runtime.periodic import Periodic
from tenantry.server.lag import FollowedMove, lags
from tenantry.usage import shares, upkeep
from tenantry.usage.sampler import SampledSessions, sampled_sessions
from tenantry.usage.view import FleetView

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

logger = logging.getLogger("tenantry")

#: Seconds between two readings, at least.
PAUSE: Final = 2.0
#: So many times as long as a reading took is paused after it: reading takes a tenth of the time at most.
REST: Final = 9.0
#: Seconds between two readings, at most.
LONGEST: Final = 30.0
#: Seconds after the last question for which reading goes on. Who asks later waits for a fresh reading.
ASKED: Final = 120.0
#: Seconds between two judgements of the rule: it looks at whole days.
JUDGE: Final = 60.0
#: Seconds after which a judgement that failed is tried again.
AGAIN: Final = 5.0
#: Rows of each table of the page.
MOST: Final = 50
HOUR: Final = 3600.0
DAY: Final = 86_400.0


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
    """Those that are not simply "not-candidate"."""
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By tenant, in words."""
    sampled_sessions: Mapping[str, SampledSessions] = field(default_factory=dict)
    """By database, of the last hour and this one; empty: nobody samples."""
    numbers: FleetNumbers = field(default_factory=FleetNumbers)

    @property
    def tenants(self) -> int:
        """How many there are."""
        return sum(one.tenants for one in self.databases)


class FleetReader:
    """Reads the fleet. `start` it, `read` what it has read, and `close` it."""

    # Mutable state: _fleet (the last answer), _asked_at and _judged_at (of the monotonic clock), _judged (the last
    # verdicts and shares), _view (the counters); _read (set while _fleet is as new as it should be).
    # Of these `read` changes _asked_at, the background task the rest.

    def __init__(
        self,
        store: Store,
        config: Config,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        pause: float = PAUSE,
    ) -> None:
        """Args:
        clock: seconds since 1970 UTC.
        pause: seconds between two readings, at least.
        """
        self._store = store
        self._config = config
        self._clock = clock
        self._monotonic = monotonic
        self._pause = pause
        self._rule = rule_of(config)
        kept = config.usage
        self._retention = upkeep.Retention(hours=round(kept.hours / DAY), days=round(kept.days / DAY))
        self._view = FleetView(top=config.metrics.top)
        self._fleet = Fleet()
        self._asked_at = self._judged_at = float("-inf")
        self._judged: tuple[tuple[Verdict, ...], Mapping[tuple[str, str], float]] = ((), {})
        self._read = asyncio.Event()
        self._reading = Periodic(self._round, JUDGE, self._failed, name="tenantry fleet reader")

    def start(self) -> None:
        """Start reading in the background. The ledger's upkeep is done whether anybody asks or not."""
        self._reading.start()

    async def close(self) -> None:
        """Stop reading. Idempotent."""
        await self._reading.close()

    async def read(self) -> Fleet:
        """The fleet as it was read last: a few seconds ago, or just now if nobody had asked for a while.

        Never raises for a control database that is away.
        """
        self._asked_at = self._monotonic()
        if not self._read.is_set():
            self._reading.wake()
            await self._read.wait()
        return self._fleet

    def shown(self) -> frozenset[str]:
        """Tenants that the last reading names in verdicts and moves."""
        moved = {move.tenant for move in self._fleet.moves}
        return frozenset(moved | {verdict.tenant for verdict in self._fleet.verdicts})

    async def _round(self) -> float:
        await self._judge_in_time()
        if self._monotonic() - self._asked_at < ASKED:
            return await self._refresh()
        self._read.clear()
        return JUDGE

    def _failed(self, _error: Exception, _failures: int) -> None:
        """A mistake of ours stops neither the upkeep, nor those who wait for an answer."""
        self._read.set()

    async def _refresh(self) -> float:
        """Read; returns the seconds to pause after it."""
        began = self._monotonic()
        rest = 0.0
        try:
            self._fleet = await self._look(await self._store.pool())
            rest = min(REST * (self._monotonic() - began), LONGEST)
        except ANY_FAILURE as error:
            self._away(error)
        self._read.set()
        return max(self._pause, rest)

    def _away(self, error: BaseException) -> None:
        """Keep what was read last; of the numbers, only those that stay true."""
        if self._fleet.error is None:
            logger.warning("the control database can't be read: %s", type(error).__name__)
        numbers = self._fleet.numbers
        away = FleetNumbers(uses=numbers.uses, busy=numbers.busy)
        self._fleet = replace(self._fleet, error=_words(error), numbers=away)

    async def _judge_in_time(self) -> None:
        if self._monotonic() - self._judged_at < JUDGE:
            return
        try:
            self._judged = await self._judge(await self._store.pool(), self._clock())
            self._judged_at = self._monotonic()
        except ANY_FAILURE as error:
            self._away(error)
            self._judged_at = self._monotonic() - JUDGE + AGAIN

    async def _look(self, control: Pool) -> Fleet:
        databases = await _databases(control)
        moves = tuple(MoveRow(*row.values()) for row in await control.fetch(sql.query("server/moves"), MOST))
        now = self._clock()
        await self._view.refresh(control, now)
        judged, _ = self._judged
        unfinished = [_following(move) for move in moves if not move.finished]
        known = resolve_all(self._config, await self._store.databases()) if unfinished else {}
        hour = now // HOUR * HOUR
        return Fleet(
            at=datetime.fromtimestamp(now, UTC),
            databases=databases,
            moves=moves,
            verdicts=judged,
            reasons={verdict.tenant: reasons(verdict) for verdict in judged},
            sampled_sessions=await sampled_sessions(control, hour - HOUR, hour + HOUR),
            numbers=self._numbers(databases, moves)._replace(
                lags=await lags(known, unfinished),
                backups=await measure(self._store, self._config),
                backups_every={
                    name: policy.backup.every
                    for name, policy in (await policies(self._store, self._config)).items()
                },
                pauses=tuple(row["pause"] for row in await control.fetch(sql.query("server/pauses"))),
            ),
        )

    async def _judge(self, control: Pool, now: float) -> Any:
        """The verdicts worth telling, and in shared databases the shares of the last complete bucket."""
        # By the earlier of two clocks: what one that has stepped ahead calls past its time must not be forgotten.
        now = min(now, await control.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
        today = datetime.fromtimestamp(now, UTC).date()
        await upkeep.keep_up(control, now, self._retention)
        top = self._config.metrics.top
        loaded = await shares.load(control, *span(self._rule, today), top=top)
        all_ = verdicts(self._rule, loaded, today)
        told = tuple(verdict for verdict in all_ if verdict.state is not Candidacy.NOT_CANDIDATE)
        # Of a dedicated tenant the verdict's share is the one that it would have back, not of its database.
        shared = (v for v in all_ if v.action is Action.PROMOTE)
        last = {(v.tenant, v.database): share for v in shared if (share := v.proven_share) is not None}
        return told, last

    def _numbers(self, databases: tuple[DatabaseState, ...], moves: tuple[MoveRow, ...]) -> FleetNumbers:
        judged, last = self._judged
        promoting = [verdict for verdict in judged if verdict.action is Action.PROMOTE]
        # Days that are not known make many verdicts unknown: a series only where there is something to tell.
        promoting = [v for v in promoting if v.streak or v.tenant in self._view.labels]
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
            candidates=frozenset(v.tenant for v in promoting if v.state is Candidacy.CANDIDATE),
            tenants=dict(counts),
            moves={move.tenant: move.step or move.state for move in moves if not move.finished},
        )


def _following(move: MoveRow) -> FollowedMove:
    flipped = move.state in ("flipped", "rolling_back", "releasing")
    home = move.target if flipped else move.source
    return FollowedMove(move.id, move.tenant, home, flipped)


async def _databases(control: Pool) -> tuple[DatabaseState, ...]:
    rows = await control.fetch(sql.query("server/databases"))
    return tuple(DatabaseState(*row.values()) for row in rows)


def _words(error: BaseException) -> str:
    """Never the driver's own words: the page is read by more people than the log."""
    return str(error) if isinstance(error, TenantryError) else type(error).__name__
