"""Who uses how much, who has outgrown the shared database, and who is loading the servers now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TextIO

import asyncpg

from tenantry.config import Config
from tenantry.errors import DatabaseUnavailable
from tenantry.operations.context import Context
from tenantry.promotion import Bucket, Candidacy, PromotionRule, Verdict, judge, span, verdicts
from tenantry.usage import exchange, shares, storage, upkeep
from tenantry.usage.exchange import HistoryRow
from tenantry.usage.meter import DAY
from tenantry.usage.queue_reporter import waiting_callers
from tenantry.usage.sampler import Activity, SampledSessions, read_activity, sampled_sessions
from tenantry.usage.shares import Shares
from tenantry.usage.storage import Storage


@dataclass(frozen=True, slots=True)
class Overview:
    """The largest tenants of each database, by several figures."""

    today: date
    """UTC; not complete yet."""
    shares: Shares
    """By the ledger: the rule's window and today."""
    verdicts: tuple[Verdict, ...]
    witnessed: Mapping[str, SampledSessions]
    """By database: sessions that were seen today."""
    stored: Mapping[str, tuple[date, Storage]]
    """By database: the newest estimate of storage, and its day."""
    reported: float
    """Part of today that the fleet has reported so far, 0 to 1."""


@dataclass(frozen=True, slots=True)
class TenantUsage:
    """One tenant, day by day."""

    tenant: str
    first: date
    """First day of the rule's window, UTC."""
    until: date
    """First day behind it."""
    today: date
    shares: Shares
    verdict: Verdict | None
    """None: the directory has no such tenant."""


@dataclass(frozen=True, slots=True)
class Load:
    """Who is loading the servers now."""

    sessions: Mapping[str, Sequence[Activity]]
    """By database."""
    queues: Mapping[tuple[str, str], int] | None
    """Callers that wait in the routers, by database and tenant; None: the control database's schema is too old."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """Databases that could not be asked, and why."""


class Usage:
    """`Operations.usage`.

    Raises (every method): DatabaseUnavailable for "control" when the control database doesn't answer.
    """

    def __init__(self, context: Context, clock: Callable[[], float] = time.time) -> None:
        """Args:
        clock: seconds since 1970 UTC.
        """
        self._context = context
        self._clock = clock

    async def overview(self, top: int = 10) -> Overview:
        """Shares of the window's days and of today, `top` tenants of each database and those near the rule."""
        async with self._context.pool() as control:
            rule, now, today = await self._begin(control)
            first, _ = span(rule, today)
            tomorrow = today + timedelta(days=1)
            loaded = await shares.load(control, first, tomorrow, near=rule.demote_threshold, top=top)
            midnight = now // DAY * DAY
            seen = await sampled_sessions(control, midnight, midnight + DAY)
            stored = await storage.latest(control)
            (part,) = await upkeep.reported(control, today, 1, now)
        return Overview(today, loaded, tuple(verdicts(rule, loaded, today)), seen, stored, part)

    async def tenant(self, tenant: object) -> TenantUsage:
        """One tenant, day by day, and what the rule says of it.

        Raises:
            InvalidTenantId: not an id of the configured type. Before any I/O.
        """
        name = self._context.id_of(tenant)
        async with self._context.pool() as control:
            rule, _, today = await self._begin(control)
            first, until = span(rule, today)
            loaded = await shares.load(control, first, today + timedelta(days=1), tenants=[name])
        verdict = judge(rule, loaded.history(name), today) if name in loaded.homes else None
        return TenantUsage(name, first, until, today, loaded, verdict)

    async def candidates(self) -> tuple[Verdict, ...]:
        """What the rule says of everybody who is anywhere near it."""
        async with self._context.pool() as control:
            rule, _, today = await self._begin(control)
            loaded = await shares.load(control, *span(rule, today), near=rule.threshold / 2, top=1)
        return tuple(verdict for verdict in verdicts(rule, loaded, today) if is_near(verdict, rule))

    async def load(self) -> Load:
        """Who is loading the servers now: sessions by tenant, their waits, and callers that wait in routers."""
        databases = await self._context.databases()
        unseen: dict[str, str] = {}

        async def ask(name: str) -> list[Activity]:
            database = databases[name]
            try:
                async with self._context.connect(name, database.best_dsn or database.require_dsn()) as connection:
                    return await read_activity(connection)
            except DatabaseUnavailable as error:
                unseen[name] = str(error)
                return []

        found = await asyncio.gather(*map(ask, databases))
        sessions = dict(zip(databases, found, strict=True))
        async with self._context.pool() as control:
            try:
                queues = await waiting_callers(control)
            except asyncpg.UndefinedTableError:
                return Load(sessions, None, unseen)
        return Load(sessions, queues, unseen)

    async def import_history(self, rows: Iterable[HistoryRow], label: str) -> exchange.ImportedUsage:
        """Take in history from elsewhere, to judge it by the rule.

        Args:
            label: where the history comes from; every verdict will say it.

        Raises:
            ValueError: a row or the label can't be used; nothing was taken in.
        """
        read = list(rows)
        async with self._context.pool() as control:
            return await exchange.put(control, read, label)

    async def import_csv(self, file: TextIO, label: str) -> exchange.ImportedUsage:
        """The same from a CSV file: day,database,tenant,busy_seconds,total_seconds[,coverage,…].

        Raises:
            BadHistory: a line can't be read: it says which; nothing was taken in.
        """
        return await self.import_history(exchange.parse(file, self._context.config.tenancy.type), label)

    async def export_history(
        self, since: date | None = None, until: date | None = None
    ) -> AsyncIterator[HistoryRow]:
        """The ledger, a row for each UTC day, database and tenant. `until` is the first day that is left out."""
        tomorrow = datetime.now(UTC).date() + timedelta(days=1)
        async with self._context.pool() as control:
            await upkeep.close_days(control, self._clock())
            async for row in exchange.get(control, since or date(1970, 1, 1), until or tomorrow):
                yield row

    async def _begin(self, control: asyncpg.Pool[asyncpg.Record]) -> tuple[PromotionRule, float, date]:
        """Close the ledger's complete days; the rule, the time and the day."""
        now = self._clock()
        await upkeep.close_days(control, now)
        return rule_of(self._context.config), now, upkeep.today(now)


def is_near(verdict: Verdict, rule: PromotionRule) -> bool:
    """A candidate, on its way, or half-way to the threshold on some day. Pure."""
    return verdict.state in (Candidacy.CANDIDATE, Candidacy.BUILDING) or any(
        (bucket.share or 0.0) > rule.threshold / 2 for bucket in verdict.buckets
    )


def rule_of(config: Config) -> PromotionRule:
    """The configured rule."""
    rule = config.promotion
    return PromotionRule(
        threshold=rule.threshold,
        window=round(rule.window / 86_400),
        bucket=Bucket(rule.bucket),
        coverage=rule.coverage,
        floor=rule.floor,
        demote_threshold=rule.demote_below,
    )
