"""The comparison of the reference tables before the flip: whole, row for row, and with nobody fenced.

Nothing stops those who write reference tables at the source, and nothing shall. So it is the target that stands
still, where nobody lives yet:

 1. The target's tables are locked against writing, which makes nobody wait but the worker of their replication.
 2. Then the source's snapshot is taken, and with it a position in the log: what the snapshot shows was committed
    before that. The target's snapshot is taken at any time under the lock.
 3. The worker says that it has received what is behind the position. It receives and applies one transaction after
    the other, in the order of their commits, and receives nothing while it waits for a lock. So all that was
    committed before the position had been applied before the lock, and both snapshots show the same. The lock is
    given back, and the rows are compared at leisure.

A change that is committed before 2 and had not arrived before 1 keeps the worker waiting short of the position.
Then the attempt is over at once, and the next one tries to meet another gap: one of a few milliseconds, not one as
long as the comparison. Changes after 2 do no harm.

A commit is in the log, and may be at the target, before the source shows it: a moment before, or for as long as a
synchronous standby takes. Where a writer may have been at its commit, rows that are equal prove what they always
do; rows that differ prove nothing, and are looked at again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, cast

import asyncpg

from tenantry import sql
from tenantry.move import worker
from tenantry.move.context import MoveContext
from tenantry.move.errors import DataDiffers, MoveStopped
from tenantry.move.progress import Following, Retrying
from tenantry.move.session import Connection, session
from tenantry.move.steps import catch_up
from tenantry.move.steps.fence import STATEMENTS
from tenantry.move.steps.retry import OutOfAttempts, attempts
from tenantry.move.steps.verify import compare_tables, same_shape

#: Seconds that one attempt may take to bring both sides to the same point.
_ALIGN: Final = 5.0
#: Milliseconds for which the target's lock is waited for: longer than a server takes to send autovacuum away.
_LOCK: Final = 2500
_POLL: Final = 0.003
_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
#: Tables among $2 that the worker of a subscription ($1) waits to write.
_WAITING: Final = (
    "SELECT DISTINCT name FROM unnest($2::text[]) AS name JOIN pg_locks AS l ON l.relation = to_regclass(name) "
    "JOIN pg_stat_subscription AS s ON s.pid = l.pid WHERE s.subname = $1 AND NOT l.granted"
)
_RECEIVED: Final = (
    "SELECT EXISTS (SELECT FROM pg_stat_subscription WHERE subname = $1 AND relid IS NULL "
    "AND received_lsn > $2::text::pg_lsn)"
)


class _Missed(Exception):
    """One attempt proved nothing. `tables`: those that were being written, as far as that is why."""

    def __init__(self, why: str, tables: Sequence[str] = ()) -> None:
        self.tables = tables
        super().__init__(f"{why} {', '.join(tables)}" if tables else why)


async def compare_references(context: MoveContext) -> int:
    """Compare every reference table of the move. Returns the rows compared, of one side.

    Raises:
        DataDiffers: the sides differ.
        SchemaChanged: their tables differ in shape.
        MoveStopped: no attempt brought both sides to the same point.
    """
    plan, limits = context.plan, context.limits
    if not plan.references:
        return 0
    errors = 0

    async def attempt(_: int) -> int:
        return await _compare(context)

    async def on_miss(number: int, missed: BaseException, wait: float) -> None:
        nonlocal errors
        if number == 1:
            errors = await _errors(context)
        if wait:
            context.tell(Retrying(plan.id, "verify", str(missed), wait))

    # An attempt that proved nothing has only read: another may meet another gap between two changes.
    try:
        return await attempts(context, attempt, missed=(_Missed,), on_miss=on_miss)
    except OutOfAttempts as out:
        last = cast(_Missed, out.last)
    if await _errors(context) > errors:
        last = _Missed(f"{plan.target} meets errors when it applies their changes; its log names the row")
    if not last.tables:
        raise MoveStopped(plan.id, f"the reference tables could not be compared: {last}")
    many = len(last.tables) > 1
    tables = f"table{'s' if many else ''} {', '.join(last.tables)} {'are' if many else 'is'}"
    raise MoveStopped(
        plan.id,
        f"reference {tables} written too often to be compared: {limits.attempts} attempts found no moment "
        "between two changes; let those who write there pause until the flip, and resume",
    )


async def _compare(context: MoveContext) -> int:
    tables, purpose = context.plan.references, f"verify {context.plan.id}"
    async with session(context.source, purpose) as source, session(context.target, purpose) as target:
        await _close_behind(context, source)
        committing = await _align(context, source, target)
        await same_shape(context, tables, source, target)
        rows, differences = await compare_tables(context, context.forward, tables, source, target)
    if differences and committing:
        raise _Missed("a transaction was perhaps at its commit that writes", committing)
    if differences:
        raise DataDiffers(context.plan.id, differences)
    return rows


async def _errors(context: MoveContext) -> int:
    """How often the target could not apply a change of a reference table."""
    async with session(context.target, f"verify {context.plan.id}") as target:
        return await worker.errors(target, context.reference_name)


async def _close_behind(context: MoveContext, source: Connection) -> None:
    """Wait until the target is so close behind with these tables that an attempt is worth it."""
    deadline = time.monotonic() + context.limits.catch_up
    while (lag := await catch_up.lag_of(context, source, context.source, context.reference_name)) > catch_up.NEAR:
        if time.monotonic() > deadline:
            raise MoveStopped(context.plan.id, f"{context.target.name} did not catch up with the reference tables")
        context.tell(Following(context.plan.id, lag, None))
        await asyncio.sleep(catch_up.LAG_POLL)


async def _align(context: MoveContext, source: Connection, target: Connection) -> Sequence[str]:
    """Let both sessions show the same state of the tables. Returns those with a writer perhaps at its commit."""
    purpose = f"align {context.plan.id}"
    async with (
        session(context.target, purpose) as holder,
        session(
            context.source, purpose, statements=STATEMENTS, plan_cache_mode="force_generic_plan"
        ) as source_side,
    ):
        try:
            async with asyncio.timeout(_ALIGN):
                await source.execute(_BEGIN)  # the snapshots come with the first queries
                await target.execute(_BEGIN)
                await writers(context, source_side)  # planned now, so that under the lock it costs one flight
                await holder.execute(_lock(context))
                committing = await writers(context, source_side)
                position = await source.fetchval("SELECT pg_current_wal_insert_lsn()::text")
                await target.execute("SELECT 1")
                await catch_up.write_marker(
                    context, context.forward, source_side
                )  # something behind the position, and all of it on disk
                await _received(context, target, position)
                await holder.execute("COMMIT")  # fails if the server has ended it: then the lock proves nothing
        except asyncpg.LockNotAvailableError:
            raise _Missed(f"somebody else writes to the reference tables in {context.target.name}") from None
        except TimeoutError:
            raise _Missed(
                f"{context.target.name} did not receive their changes within {_ALIGN:g} s; its log may say why"
            ) from None
    return committing


def _lock(context: MoveContext) -> str:
    """Statements that lock the target's tables against writing. The server ends the lock of a mover that is frozen
    or cut off."""
    tables = ", ".join(table.quoted for table in context.plan.references)
    return (
        f"BEGIN; SET LOCAL lock_timeout = {_LOCK}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {int(_ALIGN * 1000)}; "
        f"LOCK TABLE {tables} IN SHARE MODE"
    )


async def writers(context: MoveContext, source_side: Connection) -> Sequence[str]:
    """Reference tables that a transaction writes which may be at its commit."""
    names = [table.quoted for table in context.plan.references]
    return [row["name"] for row in await source_side.fetch(sql.query("move/reference_writers"), names)]


async def _received(context: MoveContext, target: Connection, position: str) -> None:
    """Wait until the target has received what is behind `position`."""
    names = [table.quoted for table in context.plan.references]
    while True:
        # In this order: a worker that was waiting before it was asked has received nothing since.
        waiting = await target.fetch(_WAITING, context.reference_name, names)
        if await target.fetchval(_RECEIVED, context.reference_name, position):
            return
        if waiting:
            raise _Missed("changed between the snapshots:", [row["name"] for row in waiting])
        await asyncio.sleep(_POLL)
