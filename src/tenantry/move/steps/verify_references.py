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
from typing import Final

import asyncpg

from tenantry import sql
from tenantry.move.context import Work
from tenantry.move.errors import DataDiffers, MoveStopped
from tenantry.move.progress import Following, Retrying
from tenantry.move.session import Connection, session
from tenantry.move.steps import catch_up
from tenantry.move.steps.fence import STATEMENTS
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


async def compare_references(work: Work) -> int:
    """Compare every reference table of the move. Returns the rows compared, of one side.

    Raises:
        DataDiffers: the sides differ.
        SchemaChanged: their tables differ in shape.
        MoveStopped: no attempt brought both sides to the same point.
    """
    plan, limits = work.plan, work.limits
    if not plan.references:
        return 0
    for attempt in range(1, limits.attempts + 1):
        try:
            return await _compare(work)
        except _Missed as missed:
            last = missed
        if attempt == 1:
            errors = await _errors(work)
        if attempt < limits.attempts:
            wait = min(limits.backoff * 2 ** (attempt - 1), 8.0)
            work.tell(Retrying(plan.id, "verify", str(last), wait))
            await asyncio.sleep(wait)
    if await _errors(work) > errors:
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


async def _compare(work: Work) -> int:
    tables, purpose = work.plan.references, f"verify {work.plan.id}"
    async with session(work.source, purpose) as here, session(work.target, purpose) as there:
        await _close_behind(work, here)
        committing = await _align(work, here, there)
        await same_shape(work, tables, here, there)
        rows, differences = await compare_tables(work, work.out, tables, here, there)
    if differences and committing:
        raise _Missed("a transaction was perhaps at its commit that writes", committing)
    if differences:
        raise DataDiffers(work.plan.id, differences)
    return rows


async def _errors(work: Work) -> int:
    """How often the target could not apply a change of a reference table."""
    async with session(work.target, f"verify {work.plan.id}") as there:
        count = "SELECT coalesce(sum(apply_error_count), 0) FROM pg_stat_subscription_stats WHERE subname = $1"
        return int(await there.fetchval(count, work.reference_name))


async def _close_behind(work: Work, here: Connection) -> None:
    """Wait until the target is so close behind with these tables that an attempt is worth it."""
    deadline = time.monotonic() + work.limits.catch_up
    while (lag := await catch_up.lag_of(work, here, work.source, work.reference_name)) > catch_up.NEAR:
        if time.monotonic() > deadline:
            raise MoveStopped(work.plan.id, f"{work.target.name} did not catch up with the reference tables")
        work.tell(Following(work.plan.id, lag, None))
        await asyncio.sleep(catch_up.LAG_POLL)


async def _align(work: Work, here: Connection, there: Connection) -> Sequence[str]:
    """Let both sessions show the same state of the tables. Returns those with a writer perhaps at its commit."""
    purpose = f"align {work.plan.id}"
    async with (
        session(work.target, purpose) as holder,
        session(work.source, purpose, statements=STATEMENTS, plan_cache_mode="force_generic_plan") as beside,
    ):
        try:
            async with asyncio.timeout(_ALIGN):
                await here.execute(_BEGIN)  # the snapshots come with the first queries
                await there.execute(_BEGIN)
                await writers(work, beside)  # planned now, so that under the lock it costs one flight
                await holder.execute(_lock(work))
                committing = await writers(work, beside)
                position = await here.fetchval("SELECT pg_current_wal_insert_lsn()::text")
                await there.execute("SELECT 1")
                await catch_up.mark(work, work.out, beside)  # something behind the position, and all of it on disk
                await _received(work, there, position)
                await holder.execute("COMMIT")  # fails if the server has ended it: then the lock proves nothing
        except asyncpg.LockNotAvailableError:
            raise _Missed(f"somebody else writes to the reference tables in {work.target.name}") from None
        except TimeoutError:
            raise _Missed(
                f"{work.target.name} did not receive their changes within {_ALIGN:g} s; its log may say why"
            ) from None
    return committing


def _lock(work: Work) -> str:
    """Statements that lock the target's tables against writing. The server ends the lock of a mover that is frozen
    or cut off."""
    tables = ", ".join(table.quoted for table in work.plan.references)
    return (
        f"BEGIN; SET LOCAL lock_timeout = {_LOCK}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {int(_ALIGN * 1000)}; "
        f"LOCK TABLE {tables} IN SHARE MODE"
    )


async def writers(work: Work, beside: Connection) -> Sequence[str]:
    """Reference tables that a transaction writes which may be at its commit."""
    names = [table.quoted for table in work.plan.references]
    return [row["name"] for row in await beside.fetch(sql.query("move/reference_writers"), names)]


async def _received(work: Work, there: Connection, position: str) -> None:
    """Wait until the target has received what is behind `position`."""
    names = [table.quoted for table in work.plan.references]
    while True:
        # In this order: a worker that was waiting before it was asked has received nothing since.
        waiting = await there.fetch(_WAITING, work.reference_name, names)
        if await there.fetchval(_RECEIVED, work.reference_name, position):
            return
        if waiting:
            raise _Missed("changed between the snapshots:", [row["name"] for row in waiting])
        await asyncio.sleep(_POLL)
