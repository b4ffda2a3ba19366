"""The endings: abort, rollback and release, with what the journal is told of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg

from tenantry.ids import Kind
from tenantry.move.context import MoveContext
from tenantry.move.endings import abort as aborting
from tenantry.move.endings import release, rollback
from tenantry.move.errors import DataDiffers, MoveStopped, SlotLost, WrongState
from tenantry.move.journal import MoveRecord
from tenantry.move.plan import Mechanism, MovePlan
from tenantry.move.progress import StepEnded, StepStarted
from tenantry.move.results import NOTHING, MoveResult
from tenantry.move.states import State
from tenantry.move.steps import fence, offline
from tenantry.move.steps import procedure as replicated
from tenantry.move.steps.audit import compare_back
from tenantry.move.steps.procedure import Procedure, run
from tenantry.move.steps.retry import Step, first_cause, persist
from tenantry.move.teardown import drop_unneeded_links, is_unreachable, take_down_all
from tenantry.runtime.connection_errors import TRANSIENT


def procedure(plan: MovePlan) -> Procedure:
    """The steps of a move, by its mechanism."""
    return offline.PROCEDURE if plan.mechanism is Mechanism.COPY else replicated.PROCEDURE


async def finish(context: MoveContext, state: State) -> None:
    """Do what an ending state asks for."""
    endings = {State.ABORTING: _abort, State.ROLLING_BACK: _rollback, State.RELEASING: _release}
    if state in endings:
        await _timed(context, Step(state.value, endings[state]))


async def roll_back(context: MoveContext, record: MoveRecord, *, compared: bool = False) -> None:
    """Take the tenant back, after an equal comparison unless that was `compared` just now.

    What stops before the way back's flip leaves the move flipped, so that it can also be released.
    """
    try:
        if record.state is State.FLIPPED:
            if not compared:
                await _compare(context)
            await _begin_rollback(context, MoveResult(kept_rows=False))
        elif not record.result.kept_rows and not await _is_back(context):
            await _compare(context)  # again: the last mover's is as old as its death
        await finish(context, State.ROLLING_BACK)
    except MoveStopped as error:
        await _revert_to_flipped(context, error)
        raise


async def roll_back_after_audit(context: MoveContext, error: DataDiffers) -> None:
    """Take the tenant back because the audit has found differences, which `error` then says.

    Which side is right can't be told: the target's rows may be the only good ones, so they are kept.
    """
    move = context.plan.id
    try:
        await _begin_rollback(context, MoveResult(kept_rows=True, differences=error.differences))
        await finish(context, State.ROLLING_BACK)
    except MoveStopped as stopped:
        await _revert_to_flipped(context, stopped)
        raise
    error.advise(
        f"It is back in {context.source.name}, and its rows in {context.target.name} were kept: find out which "
        f"side is right and bring over what is missing; then `tenantry moves abort {move}` deletes them"
    )


async def may_have_leftovers(context: MoveContext, record: MoveRecord) -> bool:
    """Whether this is a move that may have left something: aborted, or rolled back without deleting the rows."""
    if record.state is State.ROLLED_BACK:
        return record.result.differences is not None or await context.journal.has_leftovers(context.plan.id)
    return record.state is State.ABORTED


async def clean_again(context: MoveContext, state: State) -> None:
    """Take away what an abort or a rollback could not reach, or has kept.

    Not under a newer move of the tenant, which may be using it.
    """
    again = {State.ABORTED: Step(State.ABORTING.value, _abort), State.ROLLED_BACK: Step("empty", _empty)}
    if await context.journal.has_leftovers(context.plan.id) and not await context.journal.unfinished(
        context.plan.tenant
    ):
        placed = await context.journal.placement(context.plan.tenant)
        home_now = placed is not None and placed[0] == context.target.name
        await _timed(context, Step("unlink", _unlink) if home_now else again[state])


async def _timed(context: MoveContext, step: Step[MoveResult]) -> None:
    """Run a step that is not the procedure's, and journal what it found and how long it took."""
    started = time.monotonic()
    context.tell(StepStarted(context.plan.id, step.name))
    result = await persist(context, step)
    seconds = time.monotonic() - started
    await context.journal.record_result(context.plan.id, result, seconds={step.name: seconds})
    context.tell(StepEnded(context.plan.id, step.name, seconds))


async def _compare(context: MoveContext) -> None:
    await _timed(context, Step("verify_back", compare_back))


async def _is_back(context: MoveContext) -> bool:
    """Whether the way back has flipped."""
    return await persist(context, Step("look_back", _look_back))


async def _look_back(context: MoveContext) -> bool:
    return await fence.is_flipped(context, context.reverse)


async def _begin_rollback(context: MoveContext, found: MoveResult) -> None:
    """Begin the way back; what becomes of the target's rows is journalled before."""
    await context.journal.record_result(context.plan.id, found)
    await context.journal.enter(context.plan, State.ROLLING_BACK, found.found() if found.kept_rows else None)


async def _revert_to_flipped(context: MoveContext, error: MoveStopped) -> None:
    """After a way back that stopped: a move whose tenant is still at the target is a flipped one again."""
    move = context.plan.id
    error.advise(f"`tenantry moves resume {move}` goes on with the way back")
    with contextlib.suppress(
        MoveStopped, asyncpg.PostgresError, *TRANSIENT
    ):  # then it is seen at the next attempt
        await context.journal.record_failure(move, error.reason)
        if not await fence.is_flipped(context, context.reverse):
            await context.lease.check()
            await context.journal.force_state(context.plan, State.ROLLING_BACK, {"stopped": error.reason})
            error.advise(_advice_at_target(context, error))


def _advice_at_target(context: MoveContext, error: MoveStopped) -> str:
    """What can be done then."""
    move, source, target = context.plan.id, context.target.name, context.source.name
    if isinstance(error, DataDiffers):
        return (
            f"It stays in {source}, and nothing was deleted. Put those rows right on the side that has them "
            f"wrong, then `tenantry moves rollback {move}`; or `tenantry moves release {move}` gives up what is "
            f"in {target}, and a new move takes the tenant back with all that it has"
        )
    again = "" if isinstance(error, SlotLost) else f"`tenantry moves rollback {move}` tries again; "
    release = f"`tenantry moves release {move}` gives the way back up, and a new move takes the tenant back"
    return f"It stays in {source}. {again}{release}"


async def _abort(context: MoveContext) -> MoveResult:
    if await aborting.abort(context):
        await context.journal.enter(context.plan, State.ABORTED)
    else:
        await context.journal.enter(context.plan, State.FLIPPED)
        await run(context, procedure(context.plan), "flip")
    return NOTHING


async def _rollback(context: MoveContext) -> MoveResult:
    flip = await rollback.rollback(context)
    await rollback.clean_up(context)
    if (await context.journal.show(context.plan.id)).result.kept_rows:
        await rollback.keep(context)
    elif not await _unless_unreachable(context, "empty", rollback.empty):
        await context.journal.record_result(context.plan.id, MoveResult(kept_rows=True))
    await context.journal.record_result(context.plan.id, MoveResult(rollback_pause_seconds=round(flip.pause, 4)))
    await context.journal.enter(context.plan, State.ROLLED_BACK)
    return NOTHING


async def _unless_unreachable(
    context: MoveContext, name: str, clean: Callable[[MoveContext], Coroutine[Any, Any, None]]
) -> bool:
    """Clean what nobody waits for. False: a database can't be reached, and keeps what is there."""

    try:
        await persist(context, Step(name, clean))
    except MoveStopped as stopped:
        if not is_unreachable(first_cause(stopped.__cause__ or stopped)):
            raise
        return False
    return True


async def _empty(context: MoveContext) -> MoveResult:
    await rollback.clean_up(context)
    await rollback.empty(context)
    return MoveResult(kept_rows=False)


async def _unlink(context: MoveContext) -> MoveResult:
    """Take the replication away, and nothing else: a newer move has made the target the tenant's home, and what
    this one has left there of rows, tables and settings is the home's."""
    plan = context.plan
    for place in (context.target, context.source):
        await take_down_all(context, place)
    for kind, name in await context.journal.objects(plan.id, plan.target):
        await context.journal.record_removed(plan.id, plan.target, kind, name)
    return MoveResult(kept_rows=False)


async def _release(context: MoveContext) -> MoveResult:
    try:
        rows = await release.release(context)
    except WrongState:  # a mover that was cut off has taken the tenant back
        await context.journal.force_state(context.plan, State.RELEASING)
        return await _rollback(context)
    if context.source.kind is Kind.DEDICATED:
        await _unless_unreachable(context, "links", drop_unneeded_links)
    await context.journal.record_result(context.plan.id, MoveResult(deleted_rows=rows))
    await context.journal.enter(context.plan, State.RELEASED, {"deleted_rows": rows})
    return NOTHING
