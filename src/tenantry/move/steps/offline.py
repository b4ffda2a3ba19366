"""The copy under the fence: for sources without logical replication, with the operator's consent to the pause.

Everything happens while the tenant waits: copy, comparison, flip. There is no replication, so neither a way
back nor a flip that travels. The target's row is therefore written before the source's commit. That is safe only
because no router is told of the target before that commit: routers learn of it from the source's row, or from the
directory afterwards. Written after the commit instead, a mover that died in between would leave a tenant without
a home; G17 is worth more here than refusing a router that guesses. If the commit fails, the row is taken back at
once, or by resume and abort.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time

import asyncpg

from tenantry.directory import placements
from tenantry.move.context import Work
from tenantry.move.errors import DataDiffers, FenceMissed, MoveStopped
from tenantry.move.plan import Rule
from tenantry.move.progress import FenceTried
from tenantry.move.session import Connection, session
from tenantry.move.states import State
from tenantry.move.steps import copy, fence, fence_timeout, finalize, kits
from tenantry.move.steps.autovacuum import apply_autovacuum
from tenantry.move.steps.catch_up import unchanged
from tenantry.move.steps.copy_progress import Copied
from tenantry.move.steps.gate import flip_sql
from tenantry.move.steps.prepare_target import POST_DATA, load
from tenantry.move.steps.procedure import Result, Step, identity, keep_home, prepare_target
from tenantry.move.steps.sequences import last_value, set_sequences, start_sequences
from tenantry.move.steps.verify import compare_tables
from tenantry.move.throttle import Throttle
from tenantry.runtime.connection_errors import TRANSIENT


async def whole_schema(work: Work) -> Result:
    await load(work, POST_DATA)
    await apply_autovacuum(work)
    await start_sequences(work)
    return {**await kits.bring(work)}


async def flipping(work: Work) -> Result:
    """Copy, compare and flip under one fence; tried again, with growing waits, when it was missed."""
    limits = dataclasses.replace(work.limits, pause=work.plan.pause)
    work = dataclasses.replace(work, limits=limits, throttle=Throttle(None))  # the tenant waits for this copy
    await work.journal.mean(work.plan.id, work.plan.target, "rows", work.plan.tenant)
    why = ""
    for attempt in range(1, work.limits.attempts + 1):
        if await fence.decided(work, work.out):
            break
        await work.lease.check()
        await point_back(work)
        await kits.bring_limits(work, work.out)
        await copy.clear(work, work.target, (*work.plan.tables, *work.plan.references))
        started = time.monotonic()
        try:
            pause, moved = await work.interrupt.hold(_attempt(work))
        except FenceMissed as missed:
            why = str(missed)
            work.tell(FenceTried(work.plan.id, attempt, False, time.monotonic() - started, why))
            await asyncio.sleep(min(work.limits.backoff * 2 ** (attempt - 1), 8.0))
            continue
        work.tell(FenceTried(work.plan.id, attempt, True, pause, None))
        await work.journal.enter(work.plan, State.FLIPPED, {"pause": round(pause, 4)})
        return {"pause_seconds": round(pause, 4), "fences": attempt, **moved}
    else:
        await point_back(work)
        raise MoveStopped(work.plan.id, f"{work.limits.attempts} fences missed, the last because {why}")
    await work.journal.enter(work.plan, State.FLIPPED)
    return {}


async def _attempt(work: Work) -> tuple[float, Result]:
    """One fence: how long the tenant waited, and how much was copied and compared meanwhile."""
    purpose = f"fence {work.plan.id}"
    way = work.out
    async with (
        session(way.here, purpose) as holder,
        session(way.here, purpose) as beside,
        session(way.there, purpose) as there,
    ):
        started = time.monotonic()
        try:
            async with asyncio.timeout(fence_timeout.cap(work.limits)):
                await fence.hold(work, holder, beside)
                moved = await _carry(work, beside, there)
                await holder.execute(f"{flip_sql(work, way)}; {fence_timeout.rest(work.limits)}")
                # The flip holds the row, so what it says of the tenant's standing now is what is committed.
                await _point(work, there, work.plan.target, suspended=await finalize.standing(work, holder))
        except DataDiffers:
            raise
        except (TimeoutError, asyncpg.PostgresError, ExceptionGroup, *TRANSIENT) as error:
            holder.terminate()
            await point_back(work)
            raise FenceMissed(fence.reason(error)) from error
        if not await fence.commit(work, way, holder):
            await point_back(work)
            raise FenceMissed("its commit failed")
        return time.monotonic() - started, moved


async def _carry(work: Work, beside: Connection, there: Connection) -> Result:
    """Copy and compare, on one snapshot taken under the lock."""
    await beside.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    snapshot = await beside.fetchval("SELECT pg_export_snapshot()")
    await unchanged(work.plan, beside)
    copied = Copied(work)  # the target is not asked for its count: the tenant waits
    rows = await copy.copy_all(copied.work, str(snapshot))
    # Nothing fences the writers of reference tables, but the snapshot is the one that they were copied from.
    tables = (*work.plan.tables, *work.plan.references)
    verified, differences = await compare_tables(work, work.out, tables, beside, there)
    if differences:
        raise DataDiffers(work.plan.id, differences)
    followers = [s.quoted for s in work.plan.sequences if s.rule is Rule.FOLLOW]
    if followers:
        values = [(name, await last_value(beside, name)) for name in followers]
        await set_sequences(there, values)
    return {"copied_rows": rows, "copied_bytes": copied.bytes, "verified_rows": verified}


async def point_back(work: Work) -> None:
    """Let the target say again that the tenant lives in the source."""
    async with session(work.target, f"guard {work.plan.id}") as there:
        await _point(work, there, work.plan.source)


async def _point(work: Work, there: Connection, home: str, *, suspended: bool | None = None) -> None:
    """Change the target's row without a new epoch, which only the source's flip gives."""
    await placements.point(there, work.plan.tenant, home, work.plan.epoch, suspended=suspended)


async def settling(work: Work) -> Result:
    await work.journal.enter(work.plan, State.FLIPPED)
    await finalize.admit_anew(work, work.out)
    await work.journal.place(work.plan.tenant, work.plan.target, work.plan.epoch + 1)
    await kits.settle_limits(work, work.out)
    await kits.bring_log(work, work.out)
    await keep_home(work)
    return {}


PROCEDURE = (
    Step("target", prepare_target),
    Step("identity", identity),
    Step("schema", whole_schema),
    Step("flip", flipping),
    Step("settle", settling),
)
