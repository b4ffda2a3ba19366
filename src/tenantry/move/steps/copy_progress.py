"""Counts the rows of a running copy: COPY itself says only at its end how many there were."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Final

from tenantry.move.context import MoveContext
from tenantry.move.progress import CopyProgressed, Progress
from tenantry.move.session import session
from tenantry.runtime.connection_errors import DATABASE_ERRORS
from tenantry.runtime.shielded import stop

_EVERY: Final = 0.5
_COUNTS: Final = """
SELECT n.nspname AS schema, c.relname AS name, sum(p.tuples_processed)::bigint AS rows
FROM pg_stat_progress_copy AS p JOIN pg_stat_activity AS a ON a.pid = p.pid
JOIN pg_class AS c ON c.oid = p.relid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE p.datname = current_database() AND p.command = 'COPY FROM' AND a.application_name = $1 GROUP BY 1, 2
"""


class Copied:
    """What a copying step has brought so far, from its own events and from the target's count."""

    # Mutable state: _rows and bytes, by table.

    def __init__(self, context: MoveContext) -> None:
        self._tell = context.tell
        self._rows: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self.context = dataclasses.replace(context, tell=self._told)
        """The same work, whose events are looked at."""

    @property
    def bytes(self) -> int:
        """Sent so far, over all tables."""
        return sum(self._bytes.values())

    def _told(self, event: Progress) -> None:
        if isinstance(event, CopyProgressed):
            self._bytes[event.table] = event.bytes
            if not event.complete:
                event = event._replace(rows=self._rows.get(event.table))
        self._tell(event)

    async def count(self) -> None:
        """Ask the target again and again. A count that can't be had stops nothing."""
        plan = self.context.plan
        quoted = {(table.schema, table.name): table.quoted for table in (*plan.tables, *plan.references)}
        with contextlib.suppress(*DATABASE_ERRORS):
            async with session(self.context.target, f"count {plan.id}") as target:
                while True:
                    for row in await target.fetch(_COUNTS, f"tenantry move copy {plan.id}"):
                        if table := quoted.get((row["schema"], row["name"])):
                            self._rows[table] = row["rows"]
                    await asyncio.sleep(_EVERY)


@contextlib.asynccontextmanager
async def counted(context: MoveContext) -> AsyncIterator[Copied]:
    """Count while the body copies with `Copied.work`."""
    copied = Copied(context)
    task = asyncio.create_task(copied.count(), name=f"counting {context.plan.id}")
    try:
        yield copied
    finally:
        await stop(task)
