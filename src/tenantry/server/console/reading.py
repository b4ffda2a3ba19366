"""Reads what the console shows besides the fleet's numbers: history, queues, routers, the databases' own state.

All of it in the background, while somebody looks: a page waits for no query, but for the first ones after a while.
What is down delays nothing else: the databases are asked beside it, and so is `tenantry check`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tenantry import sql
from tenantry.config import resolve_all
from tenantry.operations.check import CheckReport, check
from tenantry.operations.check.findings import ERROR
from tenantry.operations.context import Context
from tenantry.runtime.connection_errors import ANY_FAILURE
from tenantry.runtime.periodic import Periodic
from tenantry.server.console.history import Hours, largest, read_days
from tenantry.server.console.values import Checked, Probe, ReportingRouter, SchemaState, Seen
from tenantry.usage.queue_reporter import waiting_callers
from tenantry.usage.sampler import Activity

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

logger = logging.getLogger("tenantry")

#: Seconds between two readings of the control database, at least; a tenth of the time at most is spent reading.
PAUSE: Final = 2.0
REST: Final = 9.0
LONGEST: Final = 60.0
#: Seconds between two readings of the four weeks.
DAYS_PAUSE: Final = 300.0
#: Seconds between two questions to each database, and for one answer.
PROBE_PAUSE: Final = 15.0
PATIENCE: Final = 5.0
#: Databases asked at once.
AT_ONCE: Final = 16
#: Seconds between two runs of `tenantry check`, at least, and after one that found an error, which somebody may be
#: mending; a twentieth of the time at most is spent on it.
CHECK_PAUSE: Final = 600.0
CHECK_AGAIN: Final = 60.0
CHECK_REST: Final = 19.0
#: Seconds that a page waits for the first reading at most.
FIRST: Final = 15.0
#: Seconds after the last look for which reading goes on.
LOOKED: Final = 120.0
#: Codes of `tenantry check` that say that a schema differs from the others'.
DRIFT: Final = "schema-drift"
_ROUTERS: Final = 500

Sessions = Callable[[], Mapping[str, Sequence[Activity]]]


class ConsoleReader:
    """Reads for the console. `start` it, `read` what it has read, and `close` it."""

    # Mutable state: _seen (replaced as a whole), _looked and _days_at (of the monotonic clock); _ready (set while
    # _seen has a reading that is fresh enough); changed. `read` changes _looked, the background tasks the rest.

    def __init__(
        self,
        context: Context,
        *,
        sessions: Sessions,
        named: Callable[[], Collection[str]] = frozenset,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        context: whose databases are looked at.
        sessions: who is in the databases that this process watches.
        named: tenants that are shown for another reason than their load: their names are read too.
        clock: seconds since 1970 UTC.
        """
        self._context = context
        self._sessions = sessions
        self._named = named
        self._clock = clock
        self._monotonic = monotonic
        self._hours = Hours()
        self._seen = Seen()
        self._looked = self._days_at = float("-inf")
        self._ready = asyncio.Event()
        self.changed = asyncio.Event()
        """Set at each reading, then replaced: whoever waits for news takes it first."""
        self._tasks = (
            Periodic(self._round, LOOKED, self._failed, name="tenantry console"),
            Periodic(self._probe, PROBE_PAUSE, self._not_asked, name="tenantry console databases"),
            Periodic(self._check, CHECK_PAUSE, self._not_checked, name="tenantry console check"),
        )

    def start(self) -> None:
        """Begin, in the background. Nothing is read before somebody looks."""
        for task in self._tasks:
            task.start()

    async def close(self) -> None:
        """Stop. Idempotent."""
        for task in self._tasks:
            await task.close()

    async def read(self) -> Seen:
        """What was read last, a few seconds ago. Never raises for what is away."""
        idle = self._monotonic() - self._looked > LOOKED
        self._looked = self._monotonic()
        if idle:
            for task in self._tasks:
                task.wake()
        with contextlib.suppress(TimeoutError):  # a control database that hangs must not hang the page
            async with asyncio.timeout(FIRST):
                await self._ready.wait()
        return replace(self._seen, sessions=self._sessions())

    @property
    def _watched(self) -> bool:
        return self._monotonic() - self._looked <= LOOKED

    def _tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    # -- the control database ----------------------------------------------------------------------

    async def _round(self) -> float | None:
        if not self._watched:
            self._ready.clear()
            return LOOKED
        began = self._monotonic()
        await self._look(await self._context.store.pool(), self._clock())
        self._ready.set()
        self._tell()
        return min(max(PAUSE, REST * (self._monotonic() - began)), LONGEST)

    def _failed(self, _error: Exception, _failures: int) -> float:
        """The fleet's own reader says why; here it is enough that nobody waits."""
        self._ready.set()
        self._tell()
        return PAUSE

    async def _look(self, control: Pool, now: float) -> None:
        await self._hours.refresh(control, now)
        days = self._seen.days
        if self._monotonic() - self._days_at >= DAYS_PAUSE:
            days = await read_days(control, now)
            self._days_at = self._monotonic()
        hours = self._hours.by_database()
        shown = {tenant for slots in (*hours.values(), *days.values()) for tenant in largest(slots, 20)}
        shown.update(self._named())
        try:
            queues = await waiting_callers(control)
        except asyncpg.UndefinedTableError:  # of a schema that `tenantry init` has not brought up to date
            queues = {}
        named = await control.fetch(sql.query("server/names"), sorted(shown))
        routers = await control.fetch(sql.query("server/routers"), _ROUTERS)
        self._seen = replace(
            self._seen,
            at=datetime.fromtimestamp(now, UTC),
            hours=hours,
            days=days,
            names={row["id"]: row["name"] for row in named},
            queues=queues,
            routers=tuple(ReportingRouter(*row.values()) for row in routers),
        )

    # -- the databases -----------------------------------------------------------------------------

    async def _probe(self) -> float | None:
        if not self._watched:
            return LOOKED
        databases = resolve_all(self._context.config, await self._context.store.databases())
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(name: str) -> Probe:
            async with gate:
                dsn = databases[name].best_dsn
                if dsn is None:
                    unread = databases[name].unreadable.get("dsn")
                    told = f": {unread.reference}" if unread is not None else ""
                    return Probe(error=f"its DSN can't be read here{told}", unknown=True)
                return await probe(dsn)

        found = await asyncio.gather(*map(ask, databases))
        self._seen = replace(self._seen, probes=dict(zip(databases, found, strict=True)))
        self._tell()
        return None

    def _not_asked(self, _error: Exception, _failures: int) -> float:
        return PROBE_PAUSE

    async def _check(self) -> float | None:
        if not self._watched:
            return LOOKED
        began = self._monotonic()
        report = await check(self._context, max(1, self._seen.reporting))
        self._seen = replace(self._seen, checked=_checked(report, self._clock()))
        self._tell()
        wrong = any(finding.severity == ERROR for finding in report.findings)
        pause = CHECK_AGAIN if wrong else CHECK_PAUSE
        return max(pause, CHECK_REST * (self._monotonic() - began))

    def _not_checked(self, error: Exception, _failures: int) -> float:
        at = datetime.fromtimestamp(self._clock(), UTC)
        self._seen = replace(self._seen, checked=Checked(at, error=type(error).__name__))
        self._tell()
        return PROBE_PAUSE


def _checked(report: CheckReport, now: float) -> Checked:
    drifted = {finding.database for finding in report.findings if finding.code == DRIFT}
    schemas = {}
    for one in report.facts.databases:
        reached = [side for side in (one.direct, one.operator, one.router) if side is not None]
        version = next((side.schema for side in reached if side.schema is not None), None)
        schemas[one.database.name] = SchemaState(version, one.database.name in drifted)
    return Checked(datetime.fromtimestamp(now, UTC), report.findings, schemas)


async def ask(dsn: str, query: str) -> list[Any]:
    """Ask a database one of our queries, in a session of its own that no caller waits for the end of.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError: it doesn't answer.
    """
    async with asyncio.timeout(PATIENCE):
        connection = await asyncpg.connect(
            dsn, statement_cache_size=0, server_settings={"application_name": "tenantry console"}
        )
        try:
            return list(await connection.fetch(sql.query(query)))
        finally:
            connection.terminate()


async def probe(dsn: str) -> Probe:
    """Ask one database how it is. Never raises for one that is down."""
    try:
        (row,) = await ask(dsn, "server/probe")
    except (ValueError, *ANY_FAILURE) as error:
        return Probe(error=type(error).__name__)
    return Probe(None, *row.values())
