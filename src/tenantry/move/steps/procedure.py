"""The procedure: a move is this list of steps, in this order. Each can be run again after a crash.

A step is journalled when it is complete; what it makes outside is journalled before it is made. Why each step
comes before the next:

    target     before anything is published: a target that can't be prepared costs the source nothing
    identity   before publish: a filter outside the replica identity breaks everybody's UPDATE and DELETE
    publish    before the slot: the slot's stream looks the publication up as of each change
    copy       slot, subscription, then rows as of the slot's snapshot: what comes later is in the slot
    indexes    after the copy: building them once is faster than keeping them up row by row; and before
               following: applying an UPDATE needs the key
    follow     before the way back and the comparison: both want a target that is close behind
    way_back   before the flip: the new home's first write must already be kept for the source
    verify     before the flip, and never in it: no flip without an equal comparison of all rows
    flip       the one commit
    settle     after the flip, forward only
    audit      last: the comparison again, with the tenant at its new home
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

import asyncpg

from tenantry.move import failpoints, replication
from tenantry.move.context import MoveContext
from tenantry.move.errors import DataDiffers, MoveError, MoveStopped
from tenantry.move.interrupt import Interrupted
from tenantry.move.progress import Retrying, StepEnded, StepStarted
from tenantry.move.session import session
from tenantry.move.shape import check_unchanged
from tenantry.move.states import State
from tenantry.move.steps import audit as auditing
from tenantry.move.steps import catch_up, copy, create_database, fence, finalize, gate, kits
from tenantry.move.steps.autovacuum import apply_autovacuum
from tenantry.move.steps.copy_progress import counted
from tenantry.move.steps.prepare_target import POST_DATA, PRE_DATA, install, load, write_closed_placement
from tenantry.move.steps.sequences import start_sequences
from tenantry.move.steps.verify import verify
from tenantry.move.steps.verify_references import compare_references
from tenantry.runtime.connection_errors import TRANSIENT

Result = dict[str, Any]


class Step(NamedTuple):
    """A named step of the procedure."""

    name: str
    run: Callable[[MoveContext], Coroutine[Any, Any, Result]]
    breakable: bool = True
    """False: an operator's wish to stop waits until its end."""


async def prepare_target(context: MoveContext) -> Result:
    failpoints.reach("target.started")
    await create_database.create(context)
    await install(context)
    await kits.install(context)
    await load(context, PRE_DATA)
    failpoints.reach("schema.loaded")
    await write_closed_placement(context)
    failpoints.reach("placement.closed")
    return {}


async def identity(context: MoveContext) -> Result:
    async with session(context.source, f"identity {context.plan.id}") as source:
        await replication.set_identities(context, source)
        await gate.put(context, context.forward, source)
    failpoints.reach("identities.set")
    return {}


async def publication(context: MoveContext) -> Result:
    plan, journal = context.plan, context.journal
    await journal.record_intent(plan.id, plan.source, "publication", context.replication_name(context.forward))
    if plan.references:
        await journal.record_intent(plan.id, plan.source, "publication", context.reference_name)
    async with session(context.source, f"publish {plan.id}") as source:
        await replication.publish(context, context.forward, source, replication.ROWS)
        if plan.references:
            await replication.publish_reference(context, source)
    failpoints.reach("publication.created")
    return {}


async def copying(context: MoveContext) -> Result:
    """The slot's snapshot dies with us, so a copy that was interrupted starts again with a new slot."""
    plan, journal = context.plan, context.journal
    started = time.monotonic()
    names = [context.replication_name(context.forward), *([context.reference_name] if plan.references else [])]
    for name in names:
        await journal.record_intent(plan.id, plan.source, "slot", name)
        await journal.record_intent(plan.id, plan.target, "subscription", name)
    await journal.record_intent(plan.id, plan.target, "rows", plan.tenant)
    async with (
        session(context.source, f"copy {plan.id}") as source,
        session(context.target, f"copy {plan.id}") as target,
    ):
        for name in names:
            await replication.drop_subscription(target, name)
            await replication.drop_slot(source, name)
        await copy.clear(context, context.target, (*plan.tables, *plan.references))
        async with replication.slot_with_snapshot(context, context.forward) as snapshot:
            failpoints.reach("slot.created")
            for name in names:
                await replication.subscribe(target, context.source, name, origin="any")
            failpoints.reach("subscription.created")
            async with counted(context) as copied:
                rows = await copy.copy_all(copied.context, snapshot)
    seconds = round(time.monotonic() - started, 3)
    return {"copied_rows": rows, "copied_bytes": copied.bytes, "copy_seconds": seconds}


async def indexes(context: MoveContext) -> Result:
    # A copy whose tables were changed under it has missed rows: better told as that than by a foreign key.
    async with session(context.source, f"indexes {context.plan.id}") as source:
        await check_unchanged(context.plan, source)
    await load(context, POST_DATA)
    await apply_autovacuum(context)
    found = await kits.copy_kits(context)
    await start_sequences(context)
    async with session(context.target, f"indexes {context.plan.id}") as target:
        await replication.set_identities(context, target)
        names = ", ".join(table.quoted for table in (*context.plan.tables, *context.plan.references))
        await target.execute(f"ANALYZE {names}")
    failpoints.reach("indexes.built")
    return found


async def following(context: MoveContext) -> Result:
    async with session(context.target, f"follow {context.plan.id}") as target:
        await replication.enable(target, context.replication_name(context.forward))
        if context.plan.references:
            await replication.enable(target, context.reference_name)
    failpoints.reach("subscription.enabled")
    return {"probe_seconds": round(await catch_up.catch_up(context, context.forward), 4)}


async def way_back(context: MoveContext) -> Result:
    plan, journal, name = context.plan, context.journal, context.replication_name(context.reverse)
    await journal.record_intent(plan.id, plan.target, "publication", name)
    await journal.record_intent(plan.id, plan.target, "slot", name)
    await journal.record_intent(plan.id, plan.source, "subscription", name)
    async with (
        session(context.source, f"way back {plan.id}") as source,
        session(context.target, f"way back {plan.id}") as target,
    ):
        await gate.put(context, context.reverse, target)
        await replication.publish(context, context.reverse, target, replication.NOTHING)
        await replication.make_slot(context, context.target, target, name)
        await replication.subscribe(source, context.target, name, origin="none")
    failpoints.reach("reverse.prepared")
    return {}


async def verification(context: MoveContext) -> Result:
    failpoints.reach("verify.started")
    started = time.monotonic()
    rows = await verify(context, context.forward)
    rows += await compare_references(context)
    return {"verified_rows": rows, "verify_seconds": round(time.monotonic() - started, 3)}


async def flipping(context: MoveContext) -> Result:
    await kits.copy_limits(context, context.forward)
    flip = await fence.flip(context, context.forward)
    await context.journal.enter(context.plan, State.FLIPPED, {"pause": round(flip.pause, 4)})
    return {"pause_seconds": round(flip.pause, 4), "fences": flip.attempts}


async def settling(context: MoveContext) -> Result:
    await context.journal.enter(context.plan, State.FLIPPED)
    await finalize.finalize(context, context.forward)
    record = await context.journal.show(context.plan.id)
    await kits.apply_limits(context, context.forward)
    await kits.copy_log(context, context.forward, since=record.result.get("kits_read_to"))
    await finalize.start_reverse(context)
    await keep_home(context)
    return {}


async def keep_home(context: MoveContext) -> None:
    """What was made for the tenant's home is the home's now, and no leftover of the move."""
    for section in (PRE_DATA, POST_DATA):
        await context.journal.record_removed(context.plan.id, context.plan.target, "schema", section)
    await context.journal.record_removed(context.plan.id, context.plan.target, "rows", context.plan.tenant)
    if context.plan.creation is not None:
        await context.journal.record_removed(
            context.plan.id, context.plan.target, "database", context.plan.creation.name
        )


async def audit(context: MoveContext) -> Result:
    started = time.monotonic()
    rows = await auditing.audit(context)
    return {"audited_rows": rows, "audit_seconds": round(time.monotonic() - started, 3)}


PROCEDURE: Final = (
    Step("target", prepare_target),
    Step("identity", identity),
    Step("publish", publication),
    Step("copy", copying),
    Step("indexes", indexes),
    Step("follow", following),
    Step("way_back", way_back),
    Step("verify", verification),
    Step("flip", flipping),
    Step("settle", settling),
    Step("audit", audit),
)


def remaining(procedure: tuple[Step, ...], step: str | None) -> tuple[Step, ...]:
    """The steps after `step`, the last complete one. A comparison that is not followed by its flip in the same
    run is made again: somebody may have written to the target meanwhile."""
    names = [each.name for each in procedure]
    done = 0 if step is None else names.index(step) + 1
    if done and names[done - 1] == "verify":
        done -= 1
    return procedure[done:]


async def run(context: MoveContext, procedure: tuple[Step, ...], step: str | None) -> None:
    """Run what remains after `step`."""
    for each in remaining(procedure, step):
        started = time.monotonic()
        context.tell(StepStarted(context.plan.id, each.name))
        result = await persist(context, each)
        seconds = time.monotonic() - started
        await persist(context, _journalling(each.name, result, seconds))
        context.tell(StepEnded(context.plan.id, each.name, seconds))


def _journalling(step: str, result: Result, seconds: float) -> Step:
    async def complete(context: MoveContext) -> Result:
        await context.journal.complete_step(context.plan.id, step, result, seconds=seconds)
        return {}

    return Step(f"journal {step}", complete, breakable=False)


async def persist(context: MoveContext, step: Step) -> Result:
    """Run a step, again and again while connections break, within the limits' patience.

    Raises:
        MoveStopped: they go on breaking.
        LeaseLost: another mover runs the move, or has gone on with it.
    """
    deadline = time.monotonic() + context.limits.patience
    wait = 0.1
    while True:
        try:
            # What broke our sessions may have taken the lease with it, and another mover may have gone on: to
            # begin, or begin again, would undo what it has done.
            await context.lease.check()
            return await (context.interrupt.run(step.run(context)) if step.breakable else step.run(context))
        except (MoveError, Interrupted, asyncio.CancelledError):
            raise
        except (*TRANSIENT, asyncpg.PostgresError, ExceptionGroup) as error:
            cause = first_cause(error)
            if isinstance(cause, MoveError) and not isinstance(cause, DataDiffers):
                raise cause from error
            # A full disk is no broken connection: it is not tried again until somebody has made room.
            lasting = not isinstance(cause, TRANSIENT) or isinstance(cause, asyncpg.DiskFullError)
            if lasting or time.monotonic() + wait > deadline:
                raise MoveStopped(context.plan.id, f"step {step.name}: {describe(cause)}") from error
            context.tell(Retrying(context.plan.id, step.name, describe(cause), wait))
            await context.interrupt.run(asyncio.sleep(wait))
            wait = min(wait * 2, 5.0)


def first_cause(error: BaseException) -> BaseException:
    """The first error of a group, down to the one that says something."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def describe(error: BaseException) -> str:
    """An error in one line, with the database where it happened if that is known."""
    where = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{where}" + (f": {text}" if text else "")
