"""Tells the control database who waits for a connection, so that `tenantry top` can show it for a whole fleet.

No server's session list shows who waits: callers queue in the routers' own memory. While somebody waits, a router
writes its queues every two seconds; while nobody does, it writes nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

import asyncpg

from tenantry.runtime.periodic import Periodic
from tenantry.sql import query

logger = logging.getLogger("tenantry")

REPORT_SECONDS: Final = 2.0
#: Tenants that are named; the others' callers are added up under "".
_NAMED: Final = 50
#: Seconds that saying so may take: it is of no use later.
_PATIENCE: Final = 5.0

#: Callers that wait, by database and tenant.
Queues = Mapping[tuple[str, str], int]


class QueueReporter:
    """Tells one router's queues. `start` it, and `close` it."""

    # Mutable state: _reported (the last that was written was not empty).

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        router: UUID,
        queues: Callable[[], Queues],
        *,
        every: float = REPORT_SECONDS,
    ) -> None:
        """Args:
        pool: connections to the control database.
        router: as of the router's `Ledger`.
        queues: tells who waits now.
        every: seconds.
        """
        self._pool = pool
        self._router = router
        self._queues = queues
        self._every = every
        self._reported = False
        self._reporting = Periodic(self._round, every, _not_reported, name="tenantry queue reporter")

    def start(self) -> None:
        """Begin, in the background. Never fails: what can't be said is of no interest later."""
        self._reporting.start()

    async def close(self) -> None:
        """Stop. Nobody waits in this router any more. Idempotent."""
        await self._reporting.close()

    async def report(self) -> bool:
        """Write who waits now. False: nobody does, and that has been said."""
        queues = named_queues(self._queues())
        if not queues and not self._reported:
            return False
        await self._pool.execute(
            query("usage/say_waiting"), self._router, self._every, json.dumps(queues), timeout=_PATIENCE
        )
        self._reported = bool(queues)
        return True

    async def _round(self) -> None:
        await self.report()


def _not_reported(error: Exception, failures: int) -> None:
    if failures == 1:
        logger.warning("who waits can't be written: %s", type(error).__name__)


def named_queues(queues: Queues) -> list[tuple[str, str, int]]:
    """Database, tenant and callers, the longest queues first; what is not named is added up."""
    longest = sorted(((*key, count) for key, count in queues.items() if count), key=lambda queue: -queue[2])
    rest: dict[str, int] = {}
    for database, _, count in longest[_NAMED:]:
        rest[database] = rest.get(database, 0) + count
    return longest[:_NAMED] + [(database, "", count) for database, count in sorted(rest.items())]


async def waiting_callers(control: asyncpg.Pool[asyncpg.Record]) -> dict[tuple[str, str], int]:
    """Callers that wait in the whole fleet, by database and tenant: some seconds ago at most."""
    return {
        (row["database"], row["tenant"]): row["callers"] for row in await control.fetch(query("usage/waiting"))
    }
