"""The fence and the flip: one transaction in the database where the tenant lives.

Order, and why:
 1. The server's own timeouts (`fence_timeout`) are set first: from then on the fence ends by itself even if
    we are frozen, dead or cut off. Nothing that we do later is needed to let the tenant go on.
 2. The tenant's advisory lock, exclusive. Newcomers are refused from the moment it is asked for (they try, they
    don't wait), and it is given when the tenant's running transactions have ended.
 3. A marker, after the lock and committed in a session of its own: it follows the tenant's last write in the
    log, so the other side that shows it has everything.
 4. The tables' shape, under a lock that keeps DDL off until the commit: what was verified is what is flipped. In a
    session of its own, while the marker crosses: reading the catalogs takes as long as that.
 5. Seen at the other side, then confirmed as flushed there: a crash of the target can't take rows back.
 6. Sequences that have no block of their own, then the way back is opened: everything that the new home must
    have before its first write.
 7. The gate and the placement, and COMMIT: the point of no return. The new placement travels to the other side
    behind the marker, by the same replication. Until it arrives both sides refuse; so there is one writable
    home at every instant, and none only for the milliseconds of one small transaction's way.

A crash before the commit leaves nothing but a marker; a crash after it leaves only work that goes forward.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

import asyncpg

from tenantry import sql
from tenantry.move import failpoints, replication
from tenantry.move.context import Direction, MoveContext
from tenantry.move.errors import FenceMissed, MoveStopped, SlotLost
from tenantry.move.plan import SequenceRule
from tenantry.move.progress import FenceTried
from tenantry.move.session import Connection, session
from tenantry.move.shape import check_unchanged
from tenantry.move.steps import catch_up, fence_timeout, gate
from tenantry.move.steps.finalize import admit, is_suspended
from tenantry.move.steps.retry import OutOfAttempts, attempts
from tenantry.move.steps.sequences import last_value, set_sequences
from tenantry.runtime.connection_errors import TRANSIENT
from tenantry.runtime.sqltext import literal

T = TypeVar("T")

#: Seconds that a fence waits beforehand for a marker of its own to be seen at the other side.
_WARM_UP: Final = 30.0
#: Milliseconds that the fence's other statements wait for locks.
LOCK: Final = 50
#: Statements that the sessions beside the fence keep prepared: under it each then costs one flight.
STATEMENTS: Final = 20


class Flip(NamedTuple):
    """How the flip went."""

    attempts: int
    """Starts at 1; 0: it had happened before."""
    pause: float
    """Seconds from asking for the fence's lock to the commit's answer; 0 if unknown."""


async def flip(context: MoveContext, direction: Direction) -> Flip:
    """Move the tenant's home from the direction's source to its target. Idempotent.

    Raises:
        MoveStopped: every attempt missed; the tenant goes on where it was.
    """

    async def attempt(number: int) -> Flip:
        if await is_flipped(context, direction):
            return Flip(number - 1, 0.0)
        await context.lease.check()
        await _reset_reverse(context, direction)
        await catch_up.wait_until_close(context, direction)
        started = time.monotonic()
        try:
            async with context.lease.without_visitors():
                pause = await context.interrupt.uninterrupted(_attempt(context, direction))
        except FenceMissed as missed:
            seconds = time.monotonic() - started
            context.tell(FenceTried(context.plan.id, number, False, seconds, str(missed)))
            raise
        context.tell(FenceTried(context.plan.id, number, True, pause, None))
        return Flip(number, pause)

    return await fences(context, attempt)


async def fences(context: MoveContext, attempt: Callable[[int], Awaitable[T]]) -> T:
    """Try a fence again and again. One that was missed has changed nothing: its transaction is gone.

    Raises:
        MoveStopped: every attempt missed.
    """
    try:
        return await attempts(context, attempt, missed=(FenceMissed,))
    except OutOfAttempts as out:
        raise MoveStopped(
            context.plan.id, f"{context.limits.attempts} fences missed, the last because {out.last}"
        ) from out.last


async def is_flipped(context: MoveContext, direction: Direction) -> bool:
    """Whether the flip has happened; waits for one whose commit is under way."""
    async with session(direction.source, f"gate {context.plan.id}", lock_timeout="5s") as source:
        state = await gate.read(context, direction, source)
    if state == gate.CLOSED:
        raise MoveStopped(context.plan.id, "its gate was closed (aborted, or released)")
    return state == gate.FLIPPED


async def _attempt(context: MoveContext, direction: Direction) -> float:
    """One fence. Returns the pause.

    Raises:
        FenceMissed: it ended without a flip.
    """
    purpose = f"fence {context.plan.id}"
    async with (
        session(direction.source, purpose) as fence,
        session(direction.source, purpose, statements=STATEMENTS) as source_side,
        session(direction.source, purpose, statements=STATEMENTS) as catalog,
        session(direction.target, purpose, statements=STATEMENTS) as target,
    ):
        try:
            async with asyncio.timeout(_WARM_UP):
                await _warm_up(context, direction, source_side, catalog, target)
        except TimeoutError:
            name = direction.target.name
            raise FenceMissed(f"{name} did not show a marker within {_WARM_UP:g} s, before the fence") from None
        started = time.monotonic()
        try:
            async with asyncio.timeout(fence_timeout.cap(context.limits)):
                await take_lock(context, fence, source_side)
                failpoints.reach("fence.locked")
                await _transfer(context, direction, fence, source_side, catalog, target)
                await fence.execute(f"{gate.flip_sql(context, direction)}; {fence_timeout.rest(context.limits)}")
            failpoints.reach("fence.placement_updated")
        except (TimeoutError, asyncpg.PostgresError, *TRANSIENT) as error:
            fence.terminate()
            raise FenceMissed(reason(error)) from error
        if not await commit(context, direction, fence):
            raise FenceMissed("its commit failed")
        pause = time.monotonic() - started
        with contextlib.suppress(asyncpg.PostgresError, *TRANSIENT):  # the flip itself says so too, by replication
            await admit(context, direction, target, await is_suspended(context, source_side))
        return pause


async def commit(context: MoveContext, direction: Direction, fence: Connection) -> bool:
    """Commit. A lost answer is looked up in the gate, where the truth is."""
    try:
        commit = asyncio.create_task(fence.execute("COMMIT"))
        await asyncio.sleep(0)  # the task's first step: the COMMIT is on its way
        failpoints.reach("fence.commit_sent")
        async with asyncio.timeout(context.limits.pause):
            await asyncio.shield(commit)
        return True
    except (TimeoutError, asyncpg.PostgresError, *TRANSIENT):
        commit.cancel()
        fence.terminate()
        return await is_flipped(context, direction)


async def _transfer(
    context: MoveContext,
    direction: Direction,
    fence: Connection,
    source_side: Connection,
    catalog: Connection,
    target: Connection,
) -> None:
    """Prove that the other side has everything, and give it what it needs for its first write."""
    crossing = _cross_marker(context, direction, source_side, target)
    if direction.is_forward:
        await asyncio.gather(_lock_shape(context, fence, catalog), crossing)
    else:
        await crossing
    followers = [s.quoted for s in context.plan.sequences if s.rule is SequenceRule.FOLLOW]
    if followers:
        await set_sequences(target, [(name, await last_value(source_side, name)) for name in followers])
    failpoints.reach("fence.sequences_set")
    if direction.is_forward:
        await replication.set_operations(target, context.replication_name(context.reverse), replication.ROWS)
    failpoints.reach("fence.reverse_opened")


async def _cross_marker(
    context: MoveContext, direction: Direction, source_side: Connection, target: Connection
) -> None:
    """A marker is written, seen at the other side, and on its disk."""
    number, position = await catch_up.write_marker(context, direction, source_side)
    failpoints.reach("fence.marker_written")
    await catch_up.wait_until_seen(context, direction, target, number)
    failpoints.reach("fence.marker_seen")
    await catch_up.wait_until_flushed(context, direction, source_side, position)
    failpoints.reach("fence.marker_flushed")


async def _lock_shape(context: MoveContext, fence: Connection, catalog: Connection) -> None:
    """Keep DDL off until the commit, and check that there was none."""
    names = ", ".join(table.quoted for table in context.plan.tables)
    await fence.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE; {fence_timeout.rest(context.limits)}")
    await check_unchanged(context.plan, catalog)


async def _warm_up(
    context: MoveContext, direction: Direction, source_side: Connection, catalog: Connection, target: Connection
) -> None:
    """Ask beforehand what is asked under the fence: a session's first look at the catalogs takes its time."""
    if direction.is_forward:
        await check_unchanged(context.plan, catalog)
    number, position = await catch_up.write_marker(context, direction, source_side)
    await catch_up.wait_until_seen(context, direction, target, number)
    await catch_up.wait_until_flushed(context, direction, source_side, position)


async def take_lock(context: MoveContext, fence: Connection, source_side: Connection) -> None:
    """Begin the fence's transaction, with its dead man's switch, and take the tenant's lock."""
    tenant = literal(context.plan.tenant)
    lock = int(context.limits.lock * 1000)
    try:
        await fence.execute(
            f"BEGIN ISOLATION LEVEL READ COMMITTED; {fence_timeout.start(context.limits)}; "
            f"SET LOCAL lock_timeout = {lock}; "
            f"SELECT pg_advisory_xact_lock(tenantry.lock_space(), tenantry.lock_key({tenant})); "
            f"SET LOCAL lock_timeout = {LOCK}; {fence_timeout.rest(context.limits)}"
        )
    except asyncpg.LockNotAvailableError:
        rows = await source_side.fetch(sql.query("move/blockers"), context.plan.tenant)
        who = ", ".join(row["who"] for row in rows) or "a transaction that has ended since"
        raise FenceMissed(f"the tenant's lock was held for more than {lock} ms by {who}") from None


def reason(error: BaseException) -> str:
    if isinstance(error, FenceMissed):
        return str(error)
    if isinstance(error, TimeoutError):
        return "the other side did not confirm the marker within the pause's cap"
    return f"{type(error).__name__}: {error}"


async def _reset_reverse(context: MoveContext, direction: Direction) -> None:
    """Before each attempt: the way back says nothing yet of what comes over this one.

    An attempt that failed after opening it has left it open; then its slot is made anew, since it would hand the
    tenant's own rows back to where they came from.
    """
    if not direction.is_forward:
        return
    name = context.replication_name(context.reverse)
    async with session(direction.target, f"way back {context.plan.id}") as target:
        row = await target.fetchrow(
            "SELECT pubinsert, (SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1) AS at "
            "FROM pg_publication WHERE pubname = $1",
            name,
        )
        if row is not None and row["pubinsert"]:
            await replication.set_operations(target, name, replication.NO_OPERATIONS)
            await replication.drop_slot(target, name)
            await replication.make_slot(context, direction.target, target, name)
        else:
            if row is None or row["at"] is None:
                raise SlotLost(context.plan.id, direction.target.name)
            # What is skipped now need not be decoded when the way back is opened.
            await target.execute(
                f"SELECT pg_replication_slot_advance({literal(name)}, pg_current_wal_flush_lsn())"
            )
