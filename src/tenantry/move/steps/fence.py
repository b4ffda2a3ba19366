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
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import asyncpg

from tenantry import sql
from tenantry.move import failpoints, replication
from tenantry.move.context import Way, Work
from tenantry.move.errors import FenceMissed, MoveStopped
from tenantry.move.plan import Rule
from tenantry.move.progress import FenceTried
from tenantry.move.session import Connection, session
from tenantry.move.steps import catch_up, fence_timeout, gate
from tenantry.move.steps.finalize import admit, standing
from tenantry.move.steps.sequences import last_value, set_sequences
from tenantry.runtime.connection_errors import TRANSIENT
from tenantry.runtime.sqltext import literal

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


async def flip(work: Work, way: Way) -> Flip:
    """Move the tenant's home from `way.here` to `way.there`. Idempotent.

    Raises:
        MoveStopped: every attempt missed; the tenant goes on where it was.
    """
    why = ""
    for attempt in range(1, work.limits.attempts + 1):
        if await decided(work, way):
            return Flip(attempt - 1, 0.0)
        await work.lease.check()
        await _shut_way_back(work, way)
        await catch_up.catch_up(work, way)
        started = time.monotonic()
        try:
            pause = await work.interrupt.hold(_attempt(work, way))
        except FenceMissed as missed:
            why = str(missed)
        else:
            work.tell(FenceTried(work.plan.id, attempt, True, pause, None))
            return Flip(attempt, pause)
        work.tell(FenceTried(work.plan.id, attempt, False, time.monotonic() - started, why))
        await asyncio.sleep(min(work.limits.backoff * 2 ** (attempt - 1), 8.0))
    raise MoveStopped(work.plan.id, f"{work.limits.attempts} fences missed, the last because {why}")


async def decided(work: Work, way: Way) -> bool:
    """Whether the flip has happened; waits for one whose commit is under way."""
    async with session(way.here, f"gate {work.plan.id}", lock_timeout="5s") as here:
        state = await gate.read(work, way, here)
    if state == gate.CLOSED:
        raise MoveStopped(work.plan.id, "its gate was closed (aborted, or released)")
    return state == gate.FLIPPED


async def _attempt(work: Work, way: Way) -> float:
    """One fence. Returns the pause.

    Raises:
        FenceMissed: it ended without a flip.
    """
    purpose = f"fence {work.plan.id}"
    async with (
        session(way.here, purpose) as fence,
        session(way.here, purpose, statements=STATEMENTS) as beside,
        session(way.here, purpose, statements=STATEMENTS) as aside,
        session(way.there, purpose, statements=STATEMENTS) as there,
    ):
        await _warm_up(work, way, beside, aside, there)
        started = time.monotonic()
        try:
            async with asyncio.timeout(fence_timeout.cap(work.limits)):
                await hold(work, fence, beside)
                failpoints.reach("K13a")
                await _carry_over(work, way, fence, beside, aside, there)
                await fence.execute(f"{gate.flip_sql(work, way)}; {fence_timeout.rest(work.limits)}")
            failpoints.reach("K13g")
        except (TimeoutError, asyncpg.PostgresError, *TRANSIENT) as error:
            fence.terminate()
            raise FenceMissed(reason(error)) from error
        if not await commit(work, way, fence):
            raise FenceMissed("its commit failed")
        pause = time.monotonic() - started
        with contextlib.suppress(asyncpg.PostgresError, *TRANSIENT):  # the flip itself says so too, by replication
            await admit(work, way, there, await standing(work, beside))
        return pause


async def commit(work: Work, way: Way, fence: Connection) -> bool:
    """Commit. A lost answer is looked up in the gate, where the truth is."""
    try:
        commit = asyncio.create_task(fence.execute("COMMIT"))
        await asyncio.sleep(0)  # the task's first step: the COMMIT is on its way
        failpoints.reach("K13h")
        async with asyncio.timeout(work.limits.pause):
            await asyncio.shield(commit)
        return True
    except (TimeoutError, asyncpg.PostgresError, *TRANSIENT):
        commit.cancel()
        fence.terminate()
        return await decided(work, way)


async def _carry_over(
    work: Work, way: Way, fence: Connection, beside: Connection, aside: Connection, there: Connection
) -> None:
    """Prove that the other side has everything, and give it what it needs for its first write."""
    crossing = _cross(work, way, beside, there)
    if way.direction == "out":
        await asyncio.gather(_keep_shape(work, fence, aside), crossing)
    else:
        await crossing
    followers = [s.quoted for s in work.plan.sequences if s.rule is Rule.FOLLOW]
    if followers:
        await set_sequences(there, [(name, await last_value(beside, name)) for name in followers])
    failpoints.reach("K13e")
    if way.direction == "out":
        await replication.set_carried(there, work.name(work.back), replication.CARRIED)
    failpoints.reach("K13f")


async def _cross(work: Work, way: Way, beside: Connection, there: Connection) -> None:
    """A marker is written, seen at the other side, and on its disk."""
    number, position = await catch_up.mark(work, way, beside)
    failpoints.reach("K13b")
    await catch_up.seen(work, way, there, number)
    failpoints.reach("K13c")
    await catch_up.flushed(work, way, beside, position)
    failpoints.reach("K13d")


async def _keep_shape(work: Work, fence: Connection, aside: Connection) -> None:
    """Keep DDL off until the commit, and check that there was none."""
    names = ", ".join(table.quoted for table in work.plan.tables)
    await fence.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE; {fence_timeout.rest(work.limits)}")
    await catch_up.unchanged(work.plan, aside)


async def _warm_up(work: Work, way: Way, beside: Connection, aside: Connection, there: Connection) -> None:
    """Ask beforehand what is asked under the fence: a session's first look at the catalogs takes its time."""
    if way.direction == "out":
        await catch_up.unchanged(work.plan, aside)
    number, position = await catch_up.mark(work, way, beside)
    await catch_up.seen(work, way, there, number)
    await catch_up.flushed(work, way, beside, position)


async def hold(work: Work, fence: Connection, beside: Connection) -> None:
    """Begin the fence's transaction, with its dead man's switch, and take the tenant's lock."""
    tenant = literal(work.plan.tenant)
    lock = int(work.limits.lock * 1000)
    try:
        await fence.execute(
            f"BEGIN ISOLATION LEVEL READ COMMITTED; {fence_timeout.start(work.limits)}; "
            f"SET LOCAL lock_timeout = {lock}; "
            f"SELECT pg_advisory_xact_lock(tenantry.lock_space(), tenantry.lock_key({tenant})); "
            f"SET LOCAL lock_timeout = {LOCK}; {fence_timeout.rest(work.limits)}"
        )
    except asyncpg.LockNotAvailableError:
        rows = await beside.fetch(sql.query("move/blockers"), work.plan.tenant)
        who = ", ".join(row["who"] for row in rows) or "a transaction that has ended since"
        raise FenceMissed(f"the tenant's lock was held for more than {lock} ms by {who}") from None


def reason(error: BaseException) -> str:
    if isinstance(error, FenceMissed):
        return str(error)
    if isinstance(error, TimeoutError):
        return "the other side did not confirm the marker within the pause's cap"
    return f"{type(error).__name__}: {error}"


async def _shut_way_back(work: Work, way: Way) -> None:
    """Before each attempt: the way back says nothing yet of what comes over this one.

    An attempt that failed after opening it has left it open; then its slot is made anew, since it would hand the
    tenant's own rows back to where they came from.
    """
    if way.direction != "out":
        return
    name = work.name(work.back)
    async with session(way.there, f"way back {work.plan.id}") as there:
        row = await there.fetchrow(
            "SELECT pubinsert, (SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1) AS at "
            "FROM pg_publication WHERE pubname = $1",
            name,
        )
        if row is not None and row["pubinsert"]:
            await replication.set_carried(there, name, replication.NOTHING)
            await replication.drop_slot(there, name)
            await replication.make_slot(work, way.there, there, name)
        else:
            # What is skipped now need not be decoded when the way back is opened.
            await there.execute(f"SELECT pg_replication_slot_advance({literal(name)}, pg_current_wal_flush_lsn())")


@contextlib.asynccontextmanager
async def aligned(work: Work, way: Way) -> AsyncIterator[tuple[Connection, Connection]]:
    """Two read-only sessions, here and there, whose snapshots show the same state of the tenant.

    The fence stands for the milliseconds that a marker needs to cross, and is gone before anything is read.

    Raises:
        MoveStopped: no fence could be had.
    """
    purpose = f"verify {work.plan.id}"
    async with session(way.here, purpose) as here, session(way.there, purpose) as there:
        why = ""
        for attempt in range(1, work.limits.attempts + 1):
            try:
                await _align(work, way, here, there)
                break
            except (FenceMissed, asyncpg.PostgresError, *TRANSIENT) as error:
                why = reason(error)
                for connection in (here, there):
                    await connection.execute("ROLLBACK")
                await asyncio.sleep(min(work.limits.backoff * 2 ** (attempt - 1), 8.0))
        else:
            raise MoveStopped(work.plan.id, f"no fence for the comparison, because {why}")
        yield here, there


async def _align(work: Work, way: Way, here: Connection, there: Connection) -> None:
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1"
    async with (
        session(way.here, f"align {work.plan.id}") as fence,
        session(way.here, f"align {work.plan.id}") as beside,
    ):
        try:
            async with asyncio.timeout(fence_timeout.cap(work.limits)):
                await hold(work, fence, beside)
                number, _ = await catch_up.mark(work, way, beside)
                await here.execute(begin)
                await catch_up.seen(work, way, there, number)
                await there.execute(begin)
                # The server may have ended the fence meanwhile; then the tenant has written between the snapshots.
                await fence.execute("SELECT 1")
        finally:
            fence.terminate()
