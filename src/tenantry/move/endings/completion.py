"""The endings: abort, rollback and release, with what the journal is told of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg

from tenantry.ids import Kind
from tenantry.move.context import Work
from tenantry.move.endings import abort as aborting
from tenantry.move.endings import release, rollback
from tenantry.move.errors import DataDiffers, MoveStopped, SlotLost, WrongState
from tenantry.move.journal import MoveRecord
from tenantry.move.plan import Mechanism, MovePlan
from tenantry.move.progress import StepEnded, StepStarted
from tenantry.move.states import State
from tenantry.move.steps import fence, offline
from tenantry.move.steps import procedure as replicated
from tenantry.move.steps.audit import compare_back
from tenantry.move.steps.procedure import Result, Step, first_cause, persist, run
from tenantry.move.teardown import drop_needless_links, is_away, take_down_all
from tenantry.runtime.connection_errors import TRANSIENT


def procedure(plan: MovePlan) -> tuple[Step, ...]:
    """The steps of a move, by its mechanism."""
    return offline.PROCEDURE if plan.mechanism is Mechanism.COPY else replicated.PROCEDURE


async def finish(work: Work, state: State) -> None:
    """Do what an ending state asks for."""
    endings = {State.ABORTING: _abort, State.ROLLING_BACK: _rollback, State.RELEASING: _release}
    if state in endings:
        await _timed(work, Step(state.value, endings[state]))


async def go_back(work: Work, record: MoveRecord, *, compared: bool = False) -> None:
    """Take the tenant back, after an equal comparison unless that was `compared` just now.

    What stops before the way back's flip leaves the move flipped, so that it can also be released.
    """
    try:
        if record.state is State.FLIPPED:
            if not compared:
                await _compare(work)
            await _set_out(work, {"kept_rows": False})
        elif not record.result.get("kept_rows") and not await _is_back(work):
            await _compare(work)  # again: the last mover's is as old as its death
        await finish(work, State.ROLLING_BACK)
    except MoveStopped as error:
        await _stay(work, error)
        raise


async def take_back(work: Work, error: DataDiffers) -> None:
    """Take the tenant back because the audit has found differences, which `error` then says.

    Which side is right can't be told: the target's rows may be the only good ones, so they are kept.
    """
    move = work.plan.id
    try:
        await _set_out(work, {"kept_rows": True, "differences": list(error.differences)})
        await finish(work, State.ROLLING_BACK)
    except MoveStopped as stopped:
        await _stay(work, stopped)
        raise
    error.advise(
        f"It is back in {work.source.name}, and its rows in {work.target.name} were kept: find out which side is "
        f"right and bring over what is missing; then `tenantry moves abort {move}` deletes them"
    )


async def may_leave(work: Work, record: MoveRecord) -> bool:
    """Whether this is a move that may have left something: aborted, or rolled back without deleting the rows."""
    if record.state is State.ROLLED_BACK:
        return "differences" in record.result or await work.journal.leaves(work.plan.id)
    return record.state is State.ABORTED


async def clean_again(work: Work, state: State) -> None:
    """Take away what an abort or a rollback could not reach, or has kept.

    Not under a newer move of the tenant, which may be using it.
    """
    again = {State.ABORTED: Step(State.ABORTING.value, _abort), State.ROLLED_BACK: Step("empty", _empty)}
    if await work.journal.leaves(work.plan.id) and not await work.journal.unfinished(work.plan.tenant):
        placed = await work.journal.placement(work.plan.tenant)
        home_now = placed is not None and placed[0] == work.target.name
        await _timed(work, Step("unlink", _unlink) if home_now else again[state])


async def _timed(work: Work, step: Step) -> None:
    """Run a step that is not the procedure's, and journal what it found and how long it took."""
    started = time.monotonic()
    work.tell(StepStarted(work.plan.id, step.name))
    result = await persist(work, step)
    seconds = time.monotonic() - started
    await work.journal.found(work.plan.id, result, seconds={step.name: seconds})
    work.tell(StepEnded(work.plan.id, step.name, seconds))


async def _compare(work: Work) -> None:
    await _timed(work, Step("verify_back", compare_back))


async def _is_back(work: Work) -> bool:
    """Whether the way back has flipped."""
    return bool((await persist(work, Step("look_back", _look_back)))["flipped"])


async def _look_back(work: Work) -> Result:
    return {"flipped": await fence.decided(work, work.back)}


async def _set_out(work: Work, found: Result) -> None:
    """Begin the way back; what becomes of the target's rows is journalled before."""
    await work.journal.found(work.plan.id, found)
    await work.journal.enter(work.plan, State.ROLLING_BACK, found if found["kept_rows"] else None)


async def _stay(work: Work, error: MoveStopped) -> None:
    """After a way back that stopped: a move whose tenant is still at the target is a flipped one again."""
    move = work.plan.id
    error.advise(f"`tenantry moves resume {move}` goes on with the way back")
    with contextlib.suppress(
        MoveStopped, asyncpg.PostgresError, *TRANSIENT
    ):  # then it is seen at the next attempt
        await work.journal.fail(move, error.reason)
        if not await fence.decided(work, work.back):
            await work.lease.check()
            await work.journal.turn(work.plan, State.ROLLING_BACK, {"stopped": error.reason})
            error.advise(_still_there(work, error))


def _still_there(work: Work, error: MoveStopped) -> str:
    """What can be done then."""
    move, here, there = work.plan.id, work.target.name, work.source.name
    if isinstance(error, DataDiffers):
        return (
            f"It stays in {here}, and nothing was deleted. Put those rows right on the side that has them wrong, "
            f"then `tenantry moves rollback {move}`; or `tenantry moves release {move}` gives up what is in "
            f"{there}, and a new move takes the tenant back with all that it has"
        )
    again = "" if isinstance(error, SlotLost) else f"`tenantry moves rollback {move}` tries again; "
    release = f"`tenantry moves release {move}` gives the way back up, and a new move takes the tenant back"
    return f"It stays in {here}. {again}{release}"


async def _abort(work: Work) -> Result:
    if await aborting.abort(work):
        await work.journal.enter(work.plan, State.ABORTED)
    else:
        await work.journal.enter(work.plan, State.FLIPPED)
        await run(work, procedure(work.plan), "flip")
    return {}


async def _rollback(work: Work) -> Result:
    flip = await rollback.rollback(work)
    await rollback.clean_up(work)
    if (await work.journal.show(work.plan.id)).result.get("kept_rows"):
        await rollback.keep(work)
    elif not await _if_it_answers(work, "empty", rollback.empty):
        await work.journal.found(work.plan.id, {"kept_rows": True})
    await work.journal.found(work.plan.id, {"rollback_pause_seconds": round(flip.pause, 4)})
    await work.journal.enter(work.plan, State.ROLLED_BACK)
    return {}


async def _if_it_answers(work: Work, name: str, clean: Callable[[Work], Coroutine[Any, Any, None]]) -> bool:
    """Clean what nobody waits for. False: a database can't be reached, and keeps what is there."""

    async def step(work: Work) -> Result:
        await clean(work)
        return {}

    try:
        await persist(work, Step(name, step))
    except MoveStopped as stopped:
        if not is_away(first_cause(stopped.__cause__ or stopped)):
            raise
        return False
    return True


async def _empty(work: Work) -> Result:
    await rollback.clean_up(work)
    await rollback.empty(work)
    return {"kept_rows": False}


async def _unlink(work: Work) -> Result:
    """Take the replication away, and nothing else: a newer move has made the target the tenant's home, and what
    this one has left there of rows, tables and settings is the home's."""
    plan = work.plan
    for place in (work.target, work.source):
        await take_down_all(work, place)
    for kind, name in await work.journal.objects(plan.id, plan.target):
        await work.journal.gone(plan.id, plan.target, kind, name)
    return {"kept_rows": False}


async def _release(work: Work) -> Result:
    try:
        rows = await release.release(work)
    except WrongState:  # a mover that was cut off has taken the tenant back
        await work.journal.turn(work.plan, State.RELEASING)
        return await _rollback(work)
    if work.source.kind is Kind.DEDICATED:
        await _if_it_answers(work, "links", drop_needless_links)
    await work.journal.found(work.plan.id, {"deleted_rows": rows})
    await work.journal.enter(work.plan, State.RELEASED, {"deleted_rows": rows})
    return {}
