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
from typing import Final

import asyncpg

from tenantry.directory import placements
from tenantry.move.context import MoveContext
from tenantry.move.errors import DataDiffers, FenceMissed, MoveStopped
from tenantry.move.pg_dump import POST_DATA
from tenantry.move.plan import SequenceRule
from tenantry.move.progress import FenceTried
from tenantry.move.results import NOTHING, MoveResult
from tenantry.move.session import Connection, session
from tenantry.move.shape import check_unchanged
from tenantry.move.states import State
from tenantry.move.steps import copy, fence, fence_timeout, kits
from tenantry.move.steps import finalize as finalizing
from tenantry.move.steps.autovacuum import apply_autovacuum
from tenantry.move.steps.copy_progress import Copied
from tenantry.move.steps.gate import flip_sql
from tenantry.move.steps.prepare_target import load
from tenantry.move.steps.procedure import keep_home, prepare_target, set_identities, steps
from tenantry.move.steps.sequences import last_value, set_sequences, start_sequences
from tenantry.move.steps.verify import compare_tables
from tenantry.move.throttle import Throttle
from tenantry.runtime.connection_errors import TRANSIENT


async def build_schema(context: MoveContext) -> MoveResult:
    await load(context, POST_DATA)
    await apply_autovacuum(context)
    await start_sequences(context)
    return MoveResult(kits_read_to=await kits.copy_kits(context))


async def flip(context: MoveContext) -> MoveResult:
    """Copy, compare and flip under one fence; tried again, with growing waits, when it was missed."""
    limits = dataclasses.replace(context.limits, pause=context.plan.pause)
    # The tenant waits for this copy, so nothing slows it down.
    context = dataclasses.replace(context, limits=limits, throttle=Throttle(None))
    plan = context.plan
    await context.journal.record_intent(plan.id, plan.target, "rows", plan.tenant)

    async def attempt(number: int) -> MoveResult:
        if await fence.is_flipped(context, context.forward):
            return NOTHING
        await context.lease.check()
        await restore_placement(context)
        await kits.copy_limits(context, context.forward)
        await copy.clear(context, context.target, (*plan.tables, *plan.references))
        started = time.monotonic()
        try:
            async with context.lease.without_visitors():
                pause, moved = await context.interrupt.uninterrupted(_attempt(context))
        except FenceMissed as missed:
            context.tell(FenceTried(plan.id, number, False, time.monotonic() - started, str(missed)))
            raise
        context.tell(FenceTried(plan.id, number, True, pause, None))
        return dataclasses.replace(moved, pause_seconds=round(pause, 4), fences=number)

    try:
        result = await fence.fences(context, attempt)
    except DataDiffers:
        raise
    except MoveStopped:
        await restore_placement(context)
        raise
    detail = None if result.pause_seconds is None else {"pause": result.pause_seconds}
    await context.journal.enter(plan, State.FLIPPED, detail)
    return result


async def _attempt(context: MoveContext) -> tuple[float, MoveResult]:
    """One fence: how long the tenant waited, and how much was copied and compared meanwhile."""
    purpose = f"fence {context.plan.id}"
    direction = context.forward
    async with (
        session(direction.source, purpose) as holder,
        session(direction.source, purpose) as source_side,
        session(direction.target, purpose) as target,
    ):
        started = time.monotonic()
        try:
            async with asyncio.timeout(fence_timeout.cap(context.limits)):
                await fence.take_lock(context, holder, source_side)
                moved = await _carry(context, source_side, target)
                await holder.execute(f"{flip_sql(context, direction)}; {fence_timeout.rest(context.limits)}")
                # The flip holds the row, so what it says of the tenant's standing now is what is committed.
                await _point(
                    context, target, context.plan.target, suspended=await finalizing.is_suspended(context, holder)
                )
        except DataDiffers:
            raise
        except (TimeoutError, asyncpg.PostgresError, ExceptionGroup, *TRANSIENT) as error:
            holder.terminate()
            await restore_placement(context)
            raise FenceMissed(fence.reason(error)) from error
        if not await fence.commit(context, direction, holder):
            await restore_placement(context)
            raise FenceMissed("its commit failed")
        return time.monotonic() - started, moved


async def _carry(context: MoveContext, source_side: Connection, target: Connection) -> MoveResult:
    """Copy and compare, on one snapshot taken under the lock."""
    await source_side.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    snapshot = await source_side.fetchval("SELECT pg_export_snapshot()")
    await check_unchanged(context.plan, source_side)
    copied = Copied(context)  # the target is not asked for its count: the tenant waits
    rows = await copy.copy_all(copied.context, str(snapshot))
    # Nothing fences the writers of reference tables, but the snapshot is the one that they were copied from.
    tables = (*context.plan.tables, *context.plan.references)
    verified, differences = await compare_tables(context, context.forward, tables, source_side, target)
    if differences:
        raise DataDiffers(context.plan.id, differences)
    followers = [s.quoted for s in context.plan.sequences if s.rule is SequenceRule.FOLLOW]
    if followers:
        values = [(name, await last_value(source_side, name)) for name in followers]
        await set_sequences(target, values)
    return MoveResult(copied_rows=rows, copied_bytes=copied.bytes, verified_rows=verified)


async def restore_placement(context: MoveContext) -> None:
    """Let the target say again that the tenant lives in the source."""
    async with session(context.target, f"guard {context.plan.id}") as target:
        await _point(context, target, context.plan.source)


async def _point(context: MoveContext, target: Connection, home: str, *, suspended: bool | None = None) -> None:
    """Change the target's row without a new epoch, which only the source's flip gives."""
    await placements.point(target, context.plan.tenant, home, context.plan.epoch, suspended=suspended)


async def finalize(context: MoveContext) -> MoveResult:
    await context.journal.enter(context.plan, State.FLIPPED)
    await finalizing.admit_in_new_sessions(context, context.forward)
    await context.journal.place(context.plan.tenant, context.plan.target, context.plan.epoch + 1)
    await kits.apply_limits(context, context.forward)
    await kits.copy_log(context, context.forward)
    await keep_home(context)
    return NOTHING


PROCEDURE: Final = steps(prepare_target, set_identities, build_schema, flip, finalize)
