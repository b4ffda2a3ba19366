"""Monitors a database: takes its totals, samples its sessions, and once a day estimates its storage.

The leader of a database holds an advisory lock on it, on a connection of its own; the lock goes with
the connection, so a leader that dies is replaced. It wants a direct connection, past any pooler.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Any, Final
from uuid import uuid4

import asyncpg

from tenantry.catalog.tenancy import Tenancy
from tenantry.errors import DatabaseUnavailable
from tenantry.runtime import locks
from tenantry.runtime.connection_errors import DATABASE_ERRORS
from tenantry.runtime.periodic import Periodic
from tenantry.usage import storage
from tenantry.usage.sampler import Activity, SessionSampler, read_activity
from tenantry.usage.totals import Collector
from tenantry.usage.upkeep import today

logger = logging.getLogger("tenantry")

SAMPLE_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 10.0
STANDBY_SECONDS: Final = 15.0

Connect = Callable[[], Awaitable[Any]]


class DatabaseMonitor:
    """One process's candidacy for watching one database. `start` it, and `close` it."""

    # Mutable state: latest (the newest activity), _stored (day of the newest estimate of storage).

    def __init__(
        self,
        database: str,
        connect: Connect,
        control: asyncpg.Pool[asyncpg.Record],
        *,
        tenancy: Tenancy | None = None,
        sample: float = SAMPLE_SECONDS,
        flush: float = FLUSH_SECONDS,
        standby: float = STANDBY_SECONDS,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Args:
        database: its name in the directory.
        connect: opens a direct connection to it; its role is in pg_monitor, or sees nobody.
        control: connections to the control database.
        tenancy: which tables are tenants', to estimate storage once a day; the role must bypass RLS for
            that. None: storage is not estimated.
        sample: mean seconds between two looks.
        flush: seconds between writing to the control database and reading the totals.
        standby: seconds after which one that is not the leader tries again.
        clock: seconds since 1970 UTC.
        monotonic: seconds, never steps.
        chance: 0 to 1; keeps the looks out of step with whatever runs once a second.
        """
        self.database = database
        self.leading = asyncio.Event()
        """Set while this process is the leader."""
        self.latest: list[Activity] = []
        self._connect = connect
        self._tenancy = tenancy
        self._stored: date | None = None
        self._control = control
        self._sample = sample
        self._flush = flush
        self._clock = clock
        self._monotonic = monotonic
        self._chance = chance
        self._candidacy = Periodic(
            self._candidate,
            standby,
            self._not_watched,
            name=f"tenantry monitor {database}",
            jitter=0.25,
            chance=chance,
        )

    def start(self) -> None:
        """Start watching in the background."""
        self._candidacy.start()

    async def close(self) -> None:
        """Stop, give up the lead, and write what was seen. Idempotent."""
        await self._candidacy.close()

    async def _candidate(self) -> None:
        """Try to become the leader; if so, lead until the connection breaks."""
        connection = await self._connect()
        try:
            if await connection.fetchval("SELECT pg_try_advisory_lock($1)", locks.WATCHING):
                await self._lead(connection)
        finally:
            self.leading.clear()
            self.latest = []
            with contextlib.suppress(*DATABASE_ERRORS):
                await connection.close(timeout=2.0)

    def _not_watched(self, error: Exception, _failures: int) -> None:
        logger.warning("watching %s: %s", self.database, type(error).__name__)

    async def _lead(self, connection: Any) -> None:
        sampler = SessionSampler(self.database, self._control, uuid4(), self._clock())
        collector = Collector(self.database, self._control)
        self.leading.set()
        written = float("-inf")
        warned = False
        try:
            while True:
                self.latest = await read_activity(connection)
                sampler.record(self.latest, self._clock())
                if sampler.hidden and not warned:
                    warned = True
                    logger.warning(
                        "watching %s: %d sessions are hidden; GRANT pg_monitor to the role",
                        self.database,
                        sampler.hidden,
                    )
                if self._monotonic() - written >= self._flush:
                    written = self._monotonic()
                    await self._write(sampler, collector, connection)
                    await self._store(connection)
                await asyncio.sleep(self._sample * (0.5 + self._chance()))
        finally:
            with contextlib.suppress(DatabaseUnavailable):
                await sampler.flush(self._clock(), last=True)

    async def _write(self, sampler: SessionSampler, collector: Collector, connection: Any) -> None:
        """Write both; a control database that is away delays them, and ends nothing."""
        try:
            await sampler.flush(self._clock())
            await collector.collect(connection, self._monotonic())
        except DatabaseUnavailable:
            logger.warning("watching %s: the control database is away", self.database)

    async def _store(self, connection: Any) -> None:
        """Estimate the storage, once a UTC day. Bounded; the samples of those seconds are missed."""
        day = today(self._clock())
        if self._tenancy is None or self._stored == day:
            return
        self._stored = day
        try:
            found = await storage.estimate(connection, await storage.tables(connection, self._tenancy))
        except asyncpg.InsufficientPrivilegeError:
            logger.warning("%s: storage is not estimated: the role does not bypass RLS", self.database)
            return
        try:
            await storage.keep(self._control, self.database, day, found)
        except DATABASE_ERRORS:
            self._stored = None
            logger.warning("watching %s: the control database is away", self.database)
            return
        logger.info(
            "%s: storage estimated from %d pages in %.2f s; %d tables skipped",
            self.database,
            found.pages,
            found.seconds,
            len(found.skipped),
        )


class MonitorSet:
    """One process's candidacies for all databases of the fleet. `follow` the directory, and `close` it."""

    # Mutable state: _monitors, by database.

    def __init__(
        self, control: asyncpg.Pool[asyncpg.Record], *, tenancy: Tenancy | None = None, **options: Any
    ) -> None:
        """Args:
        control: connections to the control database.
        tenancy: as of `DatabaseMonitor`, which gets the other options too.
        """
        self._control = control
        self._options = {"tenancy": tenancy, **options}
        self._monitors: dict[str, DatabaseMonitor] = {}

    def __getitem__(self, database: str) -> DatabaseMonitor:
        return self._monitors[database]

    @property
    def leading(self) -> list[str]:
        """Databases that this process is the leader of."""
        return sorted(name for name, monitor in self._monitors.items() if monitor.leading.is_set())

    def sessions(self) -> dict[str, list[Activity]]:
        """Who was in the databases that this process is the leader of, at the last look."""
        return {name: self._monitors[name].latest for name in self.leading}

    async def follow(self, databases: Mapping[str, Connect]) -> None:
        """Monitor these databases from now on, and no others.

        Args:
            databases: for each name in the directory, what opens a direct connection to it.
        """
        for name in [name for name in self._monitors if name not in databases]:
            await self._monitors.pop(name).close()
        for name, connect in databases.items():
            if name not in self._monitors:
                self._monitors[name] = DatabaseMonitor(name, connect, self._control, **self._options)
                self._monitors[name].start()

    async def close(self) -> None:
        """Stop watching. Idempotent."""
        monitors, self._monitors = self._monitors, {}
        await asyncio.gather(*(monitor.close() for monitor in monitors.values()))
