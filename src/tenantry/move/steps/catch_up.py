"""Following: markers that prove what the other side has, and the wait until it is close behind."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Final

from tenantry.move.catalog import read_kin, read_shape, read_storage
from tenantry.move.context import Way, Work
from tenantry.move.errors import MoveStopped, SchemaChanged, SlotLost
from tenantry.move.plan import MovePlan
from tenantry.move.progress import Following
from tenantry.move.session import Connection, Endpoint, session

_POLL: Final = 0.002
LAG_POLL: Final = 0.2
#: Closer than this a probe is worth sending. Bytes.
NEAR: Final = 4 * 1024 * 1024


async def mark(work: Work, way: Way, here: Connection) -> tuple[int, str]:
    """Write a marker, committed at once. Returns its number and the position of its commit in the log."""
    number = await here.fetchval(
        "INSERT INTO tenantry.move_marker (move, direction, number) "
        "SELECT $1, $2, coalesce(max(number), 0) + 1 FROM tenantry.move_marker WHERE move = $1 AND direction = $2 "
        "RETURNING number",
        work.plan.id,
        way.direction,
    )
    return int(number), str(await here.fetchval("SELECT pg_current_wal_lsn()::text"))


async def seen(work: Work, way: Way, there: Connection, number: int) -> None:
    """Wait until the other side shows a marker: then it shows all of the tenant's writes before it too."""
    query = "SELECT 1 FROM tenantry.move_marker WHERE move = $1 AND direction = $2 AND number = $3"
    while not await there.fetchval(query, work.plan.id, way.direction, number):  # noqa: ASYNC110  told by a row
        await asyncio.sleep(_POLL)


async def flushed(work: Work, way: Way, here: Connection, position: str) -> None:
    """Wait until the other side has confirmed that `position` is on its disk.

    Seen is not enough: a target that crashes with its log unwritten would come back without rows that it has
    shown.
    """
    query = "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1"
    while not await here.fetchval(query, work.name(way), position):  # noqa: ASYNC110  told by a row
        await asyncio.sleep(_POLL)


async def probe(work: Work, way: Way, here: Connection, there: Connection) -> float:
    """Seconds that a marker takes to be seen and flushed at the other side."""
    started = time.monotonic()
    number, position = await mark(work, way, here)
    await seen(work, way, there, number)
    await flushed(work, way, here, position)
    return time.monotonic() - started


async def unchanged(plan: MovePlan, source: Connection) -> None:
    """Check that the source's tables are shaped, and stored, as when the move was planned.

    Raises:
        SchemaChanged: they are not. Replication carries neither DDL nor, filtered, TRUNCATE.
    """
    if not (plan.shape and plan.storage):
        raise SchemaChanged(plan.id, "its plan does not say how the tables looked; abort it and plan it anew")
    shape = await read_shape(source, plan.names())
    kin = await read_kin(source, [t.column for t in plan.tables], [t.quoted for t in plan.tables])
    if digest([*shape, *kin]) != plan.shape:
        raise SchemaChanged(plan.id, "a table is new or changed its shape since the move was planned (DDL)")
    if await read_storage(source, [table.quoted for table in plan.tables]) != plan.storage:
        raise SchemaChanged(
            plan.id, "a table was truncated, rewritten or got a partition since the move was planned"
        )


def digest(lines: list[str]) -> str:
    """One value for the shape of many tables."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


async def catch_up(work: Work, way: Way) -> float:
    """Wait until the other side is so close behind that a fence would be short. Returns the probes' worst.

    Raises:
        MoveStopped: it does not come close, the slot is lost, or the schema changed.
    """
    deadline = time.monotonic() + work.limits.catch_up
    async with (
        session(way.here, f"follow {work.plan.id}") as here,
        session(way.there, f"follow {work.plan.id}") as there,
    ):
        latencies: list[float] = []
        while len(latencies) < work.limits.probes:
            if time.monotonic() > deadline:
                worst = f"{latencies[-1]:.3f} s" if latencies else "none"
                raise MoveStopped(work.plan.id, f"{way.there.name} did not catch up (last probe: {worst})")
            if way.direction == "out":
                await unchanged(work.plan, here)
            lag = await slot_lag(work, way, here)
            work.tell(Following(work.plan.id, lag, None))
            if lag > NEAR:
                await asyncio.sleep(LAG_POLL)
                continue
            latency = await _probe_within(work, way, here, there, deadline)
            work.tell(Following(work.plan.id, lag, latency))
            latencies = [*latencies, latency] if latency <= work.limits.latency else []
        return max(latencies)


async def _probe_within(work: Work, way: Way, here: Connection, there: Connection, deadline: float) -> float:
    """A probe that looks now and then whether it can arrive at all."""
    task = asyncio.create_task(probe(work, way, here, there))
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=2.0)
            if task.done():
                break
            async with session(way.here, f"watch {work.plan.id}") as beside:
                await slot_lag(work, way, beside)
                if way.direction == "out":
                    await unchanged(work.plan, beside)
            if time.monotonic() > deadline:
                raise MoveStopped(work.plan.id, f"{way.there.name} does not apply the changes; see its log")
        return task.result()
    finally:
        task.cancel()


async def slot_lag(work: Work, way: Way, here: Connection) -> int:
    """As `lag_of`, of this way's slot."""
    return await lag_of(work, here, way.here, work.name(way))


async def lag_of(work: Work, here: Connection, place: Endpoint, slot: str) -> int:
    """Bytes of log that the reader of a slot has not confirmed. `here`: a session with `place`, where the slot is.

    Raises:
        SlotLost: it is lost or gone: what it kept can't be had again.
    """
    row = await here.fetchrow(
        "SELECT wal_status, (pg_current_wal_lsn() - confirmed_flush_lsn)::bigint AS lag "
        "FROM pg_replication_slots WHERE slot_name = $1",
        slot,
    )
    if row is None or row["wal_status"] == "lost":
        raise SlotLost(work.plan.id, place.name)
    return int(row["lag"])
