"""What `tenantry serve` monitors: each database's own totals, and who is active in it.

Without the totals the rule has no denominator, and every verdict is "unknown". One process of the fleet leads for
each database (an advisory lock), so `serve` may run several times. The file's databases are watched in any case,
those of the directory while they are there: a database that is added is watched from then on, without a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import asyncpg

from tenantry.config import Config, ResolvedDatabase, resolve_all
from tenantry.directory import DatabaseRow, Directory, Feed, Store
from tenantry.events import Events
from tenantry.runtime.periodic import Periodic
from tenantry.usage import MonitorSet
from tenantry.wiring import tenancy_of

logger = logging.getLogger("tenantry")

#: Seconds between two attempts to read the directory while it can't be read.
RETRY: Final = 2.0


class FleetMonitor:
    """Keeps the monitors in step with the directory. `start` it, and `close` it."""

    # Mutable state: _dsns, of the databases that are watched; _told, why others are not. `_follow` changes them.

    def __init__(self, store: Store, config: Config, monitors: MonitorSet) -> None:
        self.monitors = monitors
        self._store = store
        self._config = config
        self._dsns = dsns_to_watch(resolve_all(config, ()))
        self._told: set[str] = set()
        self._following = Periodic(self._read, config.control.poll, _not_read, name="tenantry fleet monitor")
        # A directory of its own, which nobody asks for tenants: the feed hears of databases too.
        directory = Directory(store, config.tenancy.type, Events())
        self._feed = Feed(
            directory, config.control.listen_dsn, poll=config.control.poll, on_databases=self._following.wake
        )

    def start(self) -> None:
        """Begin. Never fails for a database that is away: it keeps trying."""
        self._feed.start()
        self._following.start()

    async def close(self) -> None:
        """Stop following and watching. Idempotent."""
        await self._following.close()
        await self._feed.close()
        await self.monitors.close()

    async def _read(self) -> None:
        """One round; the next comes with a notification, and after `poll`, as notifications get lost."""
        await self.monitors.follow(_connectors(self._dsns))  # whether the directory can be read or not
        await self._follow(await self._store.databases())

    async def _follow(self, rows: list[DatabaseRow]) -> None:
        """Watch these and the file's; one whose address has changed is watched anew."""
        databases = resolve_all(self._config, rows)
        unread = {str(one.unreadable["dsn"]) for one in databases.values() if one.best_dsn is None}
        for why in sorted(unread - self._told):
            logger.warning("not watched: %s", why)
        self._told = unread
        found = dsns_to_watch(databases)
        kept = {name: dsn for name, dsn in found.items() if self._dsns.get(name, dsn) == dsn}
        if len(kept) < len(found):
            await self.monitors.follow(_connectors(kept))
        self._dsns = found
        await self.monitors.follow(_connectors(found))


def _not_read(error: Exception, _failures: int) -> float:
    logger.warning("the databases to watch can't be read: %s", type(error).__name__)
    return RETRY


async def start_monitoring(store: Store, config: Config) -> FleetMonitor:
    """Watch every database of the configuration and of the directory from now on. To be closed."""
    monitor = FleetMonitor(store, config, MonitorSet(await store.pool(), tenancy=tenancy_of(config)))
    monitor.start()
    return monitor


def dsns_to_watch(databases: Mapping[str, ResolvedDatabase]) -> dict[str, str]:
    """By database, the most direct and most able DSN that is known here.

    The service's own role will do for the sessions of that role, and for the totals. Others are seen by members
    of pg_monitor; estimating storage takes a role that bypasses row-level security.
    """
    return {name: dsn for name, database in databases.items() if (dsn := database.best_dsn) is not None}


def _connectors(dsns: Mapping[str, str]) -> dict[str, Callable[[], Awaitable[Any]]]:
    return {name: connector(dsn) for name, dsn in dsns.items()}


def connector(dsn: str) -> Callable[[], Awaitable[Any]]:
    """Opens a connection that sees other sessions."""

    async def connect() -> Any:
        return await asyncpg.connect(
            dsn,
            timeout=5.0,
            statement_cache_size=0,
            server_settings={"application_name": "tenantry watch"},
        )

    return connect
