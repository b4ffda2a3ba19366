"""Following: markers that prove what the other side has, and the wait until it is close behind."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from tenantry.move import worker
from tenantry.move.context import Direction, MoveContext
from tenantry.move.errors import MoveStopped, SlotLost
from tenantry.move.progress import Following
from tenantry.move.session import Connection, Endpoint, session
from tenantry.move.shape import check_unchanged

_POLL: Final = 0.002
_CONFIRMED: Final = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1"
LAG_POLL: Final = 0.2
#: Closer than this a probe is worth sending. Bytes.
NEAR: Final = 4 * 1024 * 1024


async def write_marker(context: MoveContext, direction: Direction, source: Connection) -> tuple[int, str]:
    """Write a marker, committed at once. Returns its number and the position of its commit in the log."""
    number = await source.fetchval(
        "INSERT INTO tenantry.move_marker (move, direction, number) "
        "SELECT $1, $2, coalesce(max(number), 0) + 1 FROM tenantry.move_marker WHERE move = $1 AND direction = $2 "
        "RETURNING number",
        context.plan.id,
        direction.name,
    )
    return int(number), str(await source.fetchval("SELECT pg_current_wal_lsn()::text"))


async def wait_until_seen(context: MoveContext, direction: Direction, target: Connection, number: int) -> None:
    """Wait until the other side shows a marker: then it shows all of the tenant's writes before it too."""
    query = "SELECT 1 FROM tenantry.move_marker WHERE move = $1 AND direction = $2 AND number = $3"
    while not await target.fetchval(query, context.plan.id, direction.name, number):  # noqa: ASYNC110  told by a row
        await asyncio.sleep(_POLL)


async def wait_until_flushed(
    context: MoveContext, direction: Direction, source: Connection, position: str
) -> None:
    """Wait until the other side has confirmed that `position` is on its disk.

    Seen is not enough: a target that crashes with its log unwritten would come back without rows that it has
    shown.
    """
    query = "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1"
    while not await source.fetchval(query, context.replication_name(direction), position):  # noqa: ASYNC110  told by a row
        await asyncio.sleep(_POLL)


async def probe(context: MoveContext, direction: Direction, source: Connection, target: Connection) -> float:
    """Seconds that a marker takes to be seen and flushed at the other side."""
    started = time.monotonic()
    number, position = await write_marker(context, direction, source)
    await wait_until_seen(context, direction, target, number)
    await wait_until_flushed(context, direction, source, position)
    return time.monotonic() - started


class _Applied:
    """Tells a worker that fails on one change for ever from one whose connection breaks now and then."""

    # Mutable state: the position that the other side confirmed last, and its worker's errors until then.

    def __init__(self, context: MoveContext, direction: Direction) -> None:
        self._move = context.plan.id
        self._name = context.replication_name(direction)
        self._database = direction.target.name
        self._position: str | None = None
        self._errors = 0

    async def check(self, source: Connection, target: Connection) -> None:
        """Look again.

        Raises:
            MoveStopped: the worker has failed several times at one position, so waiting on is no use.
        """
        position = await source.fetchval(_CONFIRMED, self._name)
        errors = await worker.errors(target, self._name)
        if position != self._position:
            self._position, self._errors = position, errors
        elif errors >= self._errors + worker.PERSISTENT:
            raise MoveStopped(self._move, await worker.explain(target, self._database, self._name))


async def wait_until_close(context: MoveContext, direction: Direction) -> float:
    """Wait until the other side is so close behind that a fence would be short. Returns the probes' worst.

    Raises:
        MoveStopped: it does not come close, the slot is lost, the worker that applies the changes fails again and
            again, or the schema changed.
    """
    deadline = time.monotonic() + context.limits.catch_up
    async with (
        session(direction.source, f"follow {context.plan.id}") as source,
        session(direction.target, f"follow {context.plan.id}") as target,
    ):
        latencies: list[float] = []
        applied = _Applied(context, direction)
        while len(latencies) < context.limits.probes:
            if time.monotonic() > deadline:
                worst = f"{latencies[-1]:.3f} s" if latencies else "none"
                raise MoveStopped(
                    context.plan.id, f"{direction.target.name} did not catch up (last probe: {worst})"
                )
            if direction.is_forward:
                await check_unchanged(context.plan, source)
            lag = await slot_lag(context, direction, source)
            await applied.check(source, target)
            context.tell(Following(context.plan.id, lag, None))
            if lag > NEAR:
                await asyncio.sleep(LAG_POLL)
                continue
            latency = await _probe_within(context, direction, source, target, deadline, applied)
            context.tell(Following(context.plan.id, lag, latency))
            latencies = [*latencies, latency] if latency <= context.limits.latency else []
        return max(latencies)


async def _probe_within(
    context: MoveContext,
    direction: Direction,
    source: Connection,
    target: Connection,
    deadline: float,
    applied: _Applied,
) -> float:
    """A probe that looks now and then whether it can arrive at all."""
    task = asyncio.create_task(probe(context, direction, source, target))
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=2.0)
            if task.done():
                break
            async with (
                session(direction.source, f"watch {context.plan.id}") as source_side,
                session(direction.target, f"watch {context.plan.id}") as target_side,
            ):
                await slot_lag(context, direction, source_side)
                if direction.is_forward:
                    await check_unchanged(context.plan, source_side)
                await applied.check(source_side, target_side)
            if time.monotonic() > deadline:
                raise MoveStopped(
                    context.plan.id, f"{direction.target.name} does not apply the changes; see its log"
                )
        return task.result()
    finally:
        task.cancel()


async def slot_lag(context: MoveContext, direction: Direction, source: Connection) -> int:
    """As `lag_of`, of this way's slot."""
    return await lag_of(context, source, direction.source, context.replication_name(direction))


async def lag_of(context: MoveContext, source: Connection, place: Endpoint, slot: str) -> int:
    """Bytes of log that the reader of a slot has not confirmed. `source`: a session with `place`, its database.

    Raises:
        SlotLost: it is lost or gone: what it kept can't be had again.
    """
    row = await source.fetchrow(
        "SELECT wal_status, (pg_current_wal_lsn() - confirmed_flush_lsn)::bigint AS lag "
        "FROM pg_replication_slots WHERE slot_name = $1",
        slot,
    )
    if row is None or row["wal_status"] == "lost":
        raise SlotLost(context.plan.id, place.name)
    return int(row["lag"])
