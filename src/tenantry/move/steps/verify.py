"""Verification: all the tenant's rows on both sides, down to the differing row.

Both sides are read under snapshots that show the same state (`aligned`), so the comparison runs at leisure
while the tenant works. Each side digests its rows at its own pace, page by page, and the digests' sums are
compared: see `digest` for how far an equal sum can be trusted. Where they differ, the rows are digested again by
buckets of the key, and the buckets that differ are listed. A dedicated target has to hold the tenant's rows and no
others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import asyncpg

from tenantry.ids import Kind
from tenantry.move.context import Direction, MoveContext
from tenantry.move.definitions import OF_ROWS, differences
from tenantry.move.errors import DataDiffers, FenceMissed, MoveStopped, SchemaChanged
from tenantry.move.plan import TablePlan
from tenantry.move.progress import Compared
from tenantry.move.session import Connection, Endpoint, session
from tenantry.move.shape import read_definitions
from tenantry.move.steps import catch_up, fence_timeout
from tenantry.move.steps.digest import Digest, ShownRow, TableSide
from tenantry.move.steps.fence import reason as fence_reason
from tenantry.move.steps.fence import take_lock
from tenantry.move.steps.retry import OutOfAttempts, attempts
from tenantry.runtime.connection_errors import TRANSIENT

#: Rows of a bucket, and of buckets at most: their digests are held in the mover's memory.
_BUCKET: Final = 64
_BUCKETS: Final = 2**14
#: Rows of differing buckets that are listed; one bucket is always.
_LISTED: Final = 20_000
#: Differences named before the comparison stops looking.
_ENOUGH: Final = 20


@contextlib.asynccontextmanager
async def aligned(context: MoveContext, direction: Direction) -> AsyncIterator[tuple[Connection, Connection]]:
    """Two read-only sessions, here and there, whose snapshots show the same state of the tenant.

    The fence stands for the milliseconds that a marker needs to cross, and is gone before anything is read.

    Raises:
        MoveStopped: no fence could be had.
        SlotLost: nothing comes across any more.
    """
    purpose = f"verify {context.plan.id}"
    async with session(direction.source, purpose) as source, session(direction.target, purpose) as target:

        async def attempt(_: int) -> None:
            await _align(context, direction, source, target)

        async def on_miss(_: int, __: BaseException, ___: float) -> None:
            for connection in (source, target):
                await connection.execute("ROLLBACK")
            # A marker never comes through a slot that is gone: no other attempt would do better.
            await catch_up.slot_lag(context, direction, source)

        # Whatever ends an attempt, its snapshots are let go, and the fence goes with its session.
        missed = (FenceMissed, TimeoutError, asyncpg.PostgresError, *TRANSIENT)
        try:
            await attempts(context, attempt, missed=missed, on_miss=on_miss)
        except OutOfAttempts as out:
            why = fence_reason(out.last)
            raise MoveStopped(context.plan.id, f"no fence for the comparison, because {why}") from out.last
        yield source, target


async def _align(context: MoveContext, direction: Direction, source: Connection, target: Connection) -> None:
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1"
    async with (
        session(direction.source, f"align {context.plan.id}") as fence,
        session(direction.source, f"align {context.plan.id}") as source_side,
    ):
        try:
            async with asyncio.timeout(fence_timeout.cap(context.limits)):
                await take_lock(context, fence, source_side)
                number, _ = await catch_up.write_marker(context, direction, source_side)
                await source.execute(begin)
                await catch_up.wait_until_seen(context, direction, target, number)
                await target.execute(begin)
                # The server may have ended the fence meanwhile; then the tenant has written between the snapshots.
                await fence.execute("SELECT 1")
        finally:
            fence.terminate()


async def compare_sides(context: MoveContext, direction: Direction) -> int:
    """Compare every table of the tenant. Returns the rows compared, of one side.

    Raises:
        DataDiffers: the sides differ.
        SchemaChanged: their tables differ in shape.
    """
    async with aligned(context, direction) as (source, target):
        await same_shape(context, context.plan.tables, source, target)
        rows, differences = await compare_tables(context, direction, context.plan.tables, source, target)
    if differences:
        raise DataDiffers(context.plan.id, differences)
    return rows


async def same_shape(
    context: MoveContext, tables: Sequence[TablePlan], source: Connection, target: Connection
) -> None:
    """Check that both sides' tables have the same columns, keys and the like.

    Raises:
        SchemaChanged: they do not.
    """
    names = [table.quoted for table in tables]
    ours, theirs = await asyncio.gather(read_definitions(source, names), read_definitions(target, names))
    if odd := differences(ours, theirs, kinds=OF_ROWS):
        told = "; ".join(one.told(context.plan.source, context.plan.target) for one in odd[:5])
        raise SchemaChanged(context.plan.id, f"the two sides' tables differ: {told}")


async def compare_tables(
    context: MoveContext, direction: Direction, tables: Sequence[TablePlan], source: Connection, target: Connection
) -> tuple[int, list[str]]:
    """Compare tables in the sessions' snapshots, until there are differences enough. Returns the rows of one side,
    and what differs."""
    total = 0
    differences: list[str] = []
    for table in tables:
        rows, found = await compare_table(context, direction, table, source, target)
        total += rows
        differences += found
        if len(differences) >= _ENOUGH:
            break
    return total, differences


async def compare_table(
    context: MoveContext, direction: Direction, table: TablePlan, source: Connection, target: Connection
) -> tuple[int, list[str]]:
    """Compare one table. Returns its rows here, and what differs."""
    sides = await asyncio.gather(
        *(
            TableSide.open(
                connection,
                context.plan.tenant,
                table,
                context.limits.chunk,
                whole=_is_whole(context, table, place),
            )
            for connection, place in ((source, direction.source), (target, direction.target))
        )
    )
    rows = [0, 0]

    async def digest(number: int) -> Digest:
        whole = Digest()
        async for chunk in sides[number].digests():
            whole = whole.plus(chunk)
            rows[number] = whole.rows
            context.tell(Compared(context.plan.id, table.quoted, sum(rows) // 2))
        return whole

    ours, theirs = await asyncio.gather(digest(0), digest(1))
    if ours == theirs:
        return ours.rows, []
    found = await _narrow(sides, max(ours.rows, theirs.rows), (direction.source.name, direction.target.name))
    counts = (
        f"{ours.rows} rows in {direction.source.name}, {theirs.rows} in {direction.target.name}, contents differ"
    )
    return ours.rows, [f"{table.quoted} {what}" for what in found] or [f"{table.quoted}: {counts}"]


def _is_whole(context: MoveContext, table: TablePlan, place: Endpoint) -> bool:
    """Whether all rows are compared, not the tenant's only: of a reference table, and in a place that was made for
    the tenant and may hold nobody else's."""
    return not table.column or (place == context.target and place.kind is Kind.DEDICATED)


async def _narrow(sides: Sequence[TableSide], rows: int, places: tuple[str, str]) -> list[str]:
    """Name rows that differ."""
    number = 1
    while number < _BUCKETS and number * _BUCKET < rows:
        number *= 2
    ours, theirs = await asyncio.gather(*(side.buckets(number) for side in sides))
    chosen = differing(ours, theirs)
    source, target = await asyncio.gather(*(side.list(number, chosen) for side in sides))
    return tell_apart(source, target, places)[:_ENOUGH]


def differing(ours: Mapping[int, Digest], theirs: Mapping[int, Digest]) -> list[int]:
    """Buckets that differ: enough of them to name rows, and not more than memory bears."""
    chosen: list[int] = []
    rows = 0
    for bucket in sorted({*ours, *theirs}):
        a, b = ours.get(bucket, Digest()), theirs.get(bucket, Digest())
        if a == b:
            continue
        rows += a.rows + b.rows
        if chosen and (rows > _LISTED or len(chosen) >= _ENOUGH):
            break
        chosen.append(bucket)
    return chosen


def tell_apart(ours: Sequence[ShownRow], theirs: Sequence[ShownRow], places: tuple[str, str]) -> list[str]:
    """Say in words which rows differ, and how. `places`: the names of the two databases."""
    rows: dict[str, tuple[list[ShownRow], list[ShownRow]]] = defaultdict(lambda: ([], []))
    for side, seen in enumerate((ours, theirs)):
        for row in seen:
            rows[row.name][side].append(row)
    found = []
    for name in sorted(rows):
        source, target = (sorted(row.hash for row in side) for side in rows[name])
        if source == target:
            continue
        label = next(row.label for side in rows[name] for row in side)
        if not target:
            what = f"is missing in {places[1]}"
        elif not source:
            what = f"is only in {places[1]}"
        elif set(source) == set(target) and len(source) != len(target):
            what = f"is {len(source)} times in {places[0]}, {len(target)} times in {places[1]}"
        else:
            what = "differs"
        found.append(f"row {label} {what}")
    return found
