"""Writes the meter's use to the control database, every few seconds and at close, exactly once.

What was taken from the meter is frozen into numbered batches. A batch is one statement that counts
only if its number is new for this router, so a batch whose answer was lost is sent again as it is.
Batch n+1 is sent once n is known to be in. While the control database is away, one frozen interval
waits and everything newer goes on being added up in the meter: memory is bounded by the meter.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from tenantry.errors import DatabaseUnavailable
from tenantry.runtime.connection_errors import DATABASE_ERRORS
from tenantry.runtime.periodic import Periodic
from tenantry.runtime.shielded import run_shielded
from tenantry.sql import query
from tenantry.usage.meter import HOUR, Entry, Meter, Use, uses

logger = logging.getLogger("tenantry")

FLUSH_SECONDS: Final = 5.0
BATCH_ROWS: Final = 5000
SEND_SECONDS: Final = 30.0
_SLOWEST: Final = 12  # times `every`: the longest pause between attempts while control is away

#: Failures after which the batch is sent again; anything else is a bug and is raised.


class Batch(NamedTuple):
    """One statement's worth of use, frozen: sent until it is known to be counted."""

    number: int
    """Starts at 1, no gaps."""
    rows: Sequence[Entry]
    reported: Sequence[tuple[int, float]]
    """Hours that this router was reporting for, and seconds of each."""
    until: float
    """Use up to here (seconds since 1970) is in the ledger once this batch is."""
    last: bool
    """The router says good-bye with it."""


class Flushed(NamedTuple):
    """What a flush did."""

    batches: int
    rows: int
    repeated: int
    """Batches that turned out to be counted already: their first answer was lost."""
    seconds: float


def split_by_hour(end: float, seconds: float) -> list[tuple[int, float]]:
    """Cut the `seconds` before `end` at the hours: the start of each hour and its seconds, sorted."""
    pieces = []
    left = max(0.0, seconds)
    while left > 0:
        start = int(end // HOUR) * HOUR
        if start == end:
            start -= HOUR
        piece = min(left, end - start)
        pieces.append((start, piece))
        left -= piece
        end = float(start)
    return pieces[::-1]


class Ledger:
    """Writes one process's use, as its meter has it, to the control database. `start` it, and `close` it."""

    # Mutable state: _batch (number of the last frozen batch), _pending (frozen, not known to be
    # counted, oldest first), _mark (monotonic time up to which use is frozen), _until (wall clock
    # of the same), _closed. Only `_flush` changes the first four, under _lock.

    def __init__(
        self,
        meter: Meter,
        pool: asyncpg.Pool[asyncpg.Record],
        router: UUID,
        *,
        every: float = FLUSH_SECONDS,
        rows: int = BATCH_ROWS,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Args:
        meter: whose use is written.
        pool: connections to the control database.
        router: a new random id for each process's life; never used again after a restart.
        every: seconds between flushes.
        rows: most rows of one statement.
        clock: seconds since 1970-01-01 UTC; may step.
        monotonic: seconds, never steps.
        chance: 0 to 1; spreads the flushes of a fleet.
        """
        self.meter = meter
        self.router = router
        self._pool = pool
        self._every = every
        self._rows = rows
        self._clock = clock
        self._monotonic = monotonic
        self._started = self._until = clock()
        self._mark = monotonic()
        self._batch = 0
        self._pending: deque[Batch] = deque()
        self._lock = asyncio.Lock()
        self._flushing = Periodic(
            self._round, every, self._not_written, name="tenantry ledger", jitter=0.25, chance=chance
        )
        self._closed = False

    @property
    def waiting(self) -> int:
        """Frozen batches that are not known to be counted."""
        return len(self._pending)

    def start(self) -> None:
        """Start flushing in the background; the first flush says that this router is there."""
        self._flushing.start()

    async def flush(self) -> Flushed:
        """Write what the meter has; what an earlier flush left goes first.

        Raises:
            DatabaseUnavailable: for "control". Nothing is lost: the next flush goes on from there.
        """
        return await self._flush(last=False)

    async def close(self, *, timeout: float = 5.0) -> None:
        """Write everything and say good-bye. Idempotent; takes `timeout` seconds at most.

        When the control database can't be reached, the use that is not written is lost with this
        process, and the log says how much that was.
        """
        if self._closed:
            return
        self._closed = True
        await self._flushing.close()
        try:
            await run_shielded(self._flush(last=True), seconds=timeout, name="the last flush")
        except (DatabaseUnavailable, TimeoutError) as error:
            rows = uses([*(row for batch in self._pending for row in batch.rows), *self.meter.take()])
            logger.error(
                "lost up to %.1f busy seconds of %d tenants: %s",
                sum(row.busy for row in rows),
                len({row.tenant for row in rows}),
                error,
            )

    async def _round(self) -> None:
        await self.flush()

    def _not_written(self, error: Exception, failures: int) -> float:
        """What could not be written stays in memory, and may go in next time."""
        if failures == 1:
            logger.warning("use is kept in memory until it can be written: %s", error)
        return float(self._every * min(2 ** (failures - 1), _SLOWEST))

    async def _flush(self, *, last: bool) -> Flushed:
        began = self._monotonic()
        batches = rows = repeated = 0
        async with self._lock:
            frozen = False
            while self._pending or not frozen:
                if not self._pending:
                    self._freeze(last=last)
                    frozen = True
                counted = await self._send(self._pending[0])
                batch = self._pending.popleft()
                batches += 1
                rows += len(batch.rows)
                repeated += not counted
        return Flushed(batches, rows, repeated, self._monotonic() - began)

    def _freeze(self, *, last: bool) -> None:
        """Cut the interval that ends now into numbered batches; the last one carries its coverage."""
        now, mark = self._clock(), self._monotonic()
        used = self.meter.take()
        reported = split_by_hour(now, mark - self._mark)
        for first in range(0, max(1, len(used)), self._rows):
            final = first + self._rows >= len(used)
            self._batch += 1
            self._pending.append(
                Batch(
                    number=self._batch,
                    rows=used[first : first + self._rows],
                    reported=reported if final else (),
                    until=now if final else self._until,
                    last=last and final,
                )
            )
        self._mark, self._until = mark, now

    async def _send(self, batch: Batch) -> bool:
        """Send one batch. False: it was in already."""
        try:
            counted = await self._pool.fetchval(
                query("usage/count"), *self._arguments(batch), timeout=SEND_SECONDS
            )
        except DATABASE_ERRORS as error:
            raise DatabaseUnavailable("control", type(error).__name__) from error
        return bool(counted)

    def _arguments(self, batch: Batch) -> list[Any]:
        # Sorted here, batch by batch: each is a statement of its own, and the event loop goes on between.
        columns = list(zip(*uses(batch.rows), strict=True)) or [()] * len(Use._fields)
        return [
            self.router,
            batch.number,
            to_datetime(self._started),
            to_datetime(batch.until),
            to_datetime(batch.until) if batch.last else None,
            [to_datetime(hour) for hour in columns[0]],
            *columns[1:],
            [to_datetime(hour) for hour, _ in batch.reported],
            [seconds for _, seconds in batch.reported],
        ]


def to_datetime(seconds: float) -> datetime:
    """Seconds since 1970-01-01 UTC as a timestamp."""
    return datetime.fromtimestamp(seconds, UTC)
