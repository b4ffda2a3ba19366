"""The procedure: a move is this list of steps, in this order. Each can be run again after a crash.

A step is journalled when it is complete; what it makes outside is journalled before it is made. Why each step
comes before the next:

    prepare_target   before anything is published: a target that can't be prepared costs the source nothing
    set_identities   before publish: a filter outside the replica identity breaks everybody's UPDATE and DELETE
    publish          before the slot: the slot's stream looks the publication up as of each change
    copy             slot, subscription, then rows as of the slot's snapshot: what comes later is in the slot
    build_indexes    after the copy: building them once is faster than keeping them up row by row; and before
                     catching up: applying an UPDATE needs the key
    catch_up         before the way back and the comparison: both want a target that is close behind
    prepare_reverse  before the flip: the new home's first write must already be kept for the source
    verify           before the flip, and never in it: no flip without an equal comparison of all rows
    flip             the one commit
    finalize         after the flip, forward only
    audit            last: the comparison again, with the tenant at its new home

The names are the functions', the journal's, and those of events and metrics.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from tenantry.move import failpoints, replication
from tenantry.move.context import MoveContext
from tenantry.move.pg_dump import POST_DATA, PRE_DATA
from tenantry.move.progress import StepEnded, StepStarted
from tenantry.move.results import NOTHING, MoveResult
from tenantry.move.session import session
from tenantry.move.shape import check_unchanged
from tenantry.move.states import State
from tenantry.move.steps import audit as auditing
from tenantry.move.steps import copy as copying
from tenantry.move.steps import create_database, fence, gate, kits
from tenantry.move.steps import finalize as finalizing
from tenantry.move.steps.autovacuum import apply_autovacuum
from tenantry.move.steps.catch_up import wait_until_close
from tenantry.move.steps.copy_progress import counted
from tenantry.move.steps.prepare_target import install, load, write_closed_placement
from tenantry.move.steps.rehearsal import rehearse
from tenantry.move.steps.retry import Step, persist
from tenantry.move.steps.sequences import start_sequences
from tenantry.move.steps.verify import compare_sides
from tenantry.move.steps.verify_references import compare_references

Procedure = tuple[Step[MoveResult], ...]


def steps(*functions: Callable[[MoveContext], Coroutine[Any, Any, MoveResult]]) -> Procedure:
    """Steps named after their functions."""
    return tuple(Step(function.__name__, function) for function in functions)


async def prepare_target(context: MoveContext) -> MoveResult:
    failpoints.reach("target.started")
    await create_database.create(context)
    await install(context)
    await kits.install(context)
    await load(context, PRE_DATA)
    await rehearse(context)
    failpoints.reach("schema.loaded")
    await write_closed_placement(context)
    failpoints.reach("placement.closed")
    return NOTHING


async def set_identities(context: MoveContext) -> MoveResult:
    async with session(context.source, f"set identities {context.plan.id}") as source:
        await replication.set_identities(context, source)
        await gate.put(context, context.forward, source)
    failpoints.reach("identities.set")
    return NOTHING


async def publish(context: MoveContext) -> MoveResult:
    plan, journal = context.plan, context.journal
    await journal.record_intent(plan.id, plan.source, "publication", context.replication_name(context.forward))
    if plan.references:
        await journal.record_intent(plan.id, plan.source, "publication", context.reference_name)
    async with session(context.source, f"publish {plan.id}") as source:
        await replication.publish(context, context.forward, source, replication.ROWS)
        if plan.references:
            await replication.publish_reference(context, source)
    failpoints.reach("publication.created")
    return NOTHING


async def copy(context: MoveContext) -> MoveResult:
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
        await copying.clear(context, context.target, (*plan.tables, *plan.references))
        major = source.get_server_version().major
        async with replication.slot_with_snapshot(context, context.forward) as snapshot:
            failpoints.reach("slot.created")
            for name in names:
                await replication.subscribe(target, context.source, name, major=major, origin="any")
            failpoints.reach("subscription.created")
            async with counted(context) as copied:
                rows = await copying.copy_all(copied.context, snapshot)
    seconds = round(time.monotonic() - started, 3)
    return MoveResult(copied_rows=rows, copied_bytes=copied.bytes, copy_seconds=seconds)


async def build_indexes(context: MoveContext) -> MoveResult:
    # A copy whose tables were changed under it has missed rows: better told as that than by a foreign key.
    async with session(context.source, f"build indexes {context.plan.id}") as source:
        await check_unchanged(context.plan, source)
    await load(context, POST_DATA)
    await apply_autovacuum(context)
    read_to = await kits.copy_kits(context)
    await start_sequences(context)
    async with session(context.target, f"build indexes {context.plan.id}") as target:
        await replication.set_identities(context, target)
        names = ", ".join(table.quoted for table in (*context.plan.tables, *context.plan.references))
        await target.execute(f"ANALYZE {names}")
    failpoints.reach("indexes.built")
    return MoveResult(kits_read_to=read_to)


async def catch_up(context: MoveContext) -> MoveResult:
    async with session(context.target, f"catch up {context.plan.id}") as target:
        await replication.enable(target, context.replication_name(context.forward))
        if context.plan.references:
            await replication.enable(target, context.reference_name)
    failpoints.reach("subscription.enabled")
    return MoveResult(probe_seconds=round(await wait_until_close(context, context.forward), 4))


async def prepare_reverse(context: MoveContext) -> MoveResult:
    plan, journal, name = context.plan, context.journal, context.replication_name(context.reverse)
    await journal.record_intent(plan.id, plan.target, "publication", name)
    await journal.record_intent(plan.id, plan.target, "slot", name)
    await journal.record_intent(plan.id, plan.source, "subscription", name)
    async with (
        session(context.source, f"prepare reverse {plan.id}") as source,
        session(context.target, f"prepare reverse {plan.id}") as target,
    ):
        major = target.get_server_version().major
        await gate.put(context, context.reverse, target)
        await replication.publish(context, context.reverse, target, replication.NO_OPERATIONS)
        await replication.make_slot(context, context.target, target, name)
        await replication.subscribe(source, context.target, name, major=major, origin="none")
    failpoints.reach("reverse.prepared")
    return NOTHING


async def verify(context: MoveContext) -> MoveResult:
    failpoints.reach("verify.started")
    started = time.monotonic()
    rows = await compare_sides(context, context.forward)
    rows += await compare_references(context)
    return MoveResult(verified_rows=rows, verify_seconds=round(time.monotonic() - started, 3))


async def flip(context: MoveContext) -> MoveResult:
    await kits.copy_limits(context, context.forward)
    done = await fence.flip(context, context.forward)
    await context.journal.enter(context.plan, State.FLIPPED, {"pause": round(done.pause, 4)})
    return MoveResult(pause_seconds=round(done.pause, 4), fences=done.attempts)


async def finalize(context: MoveContext) -> MoveResult:
    await context.journal.enter(context.plan, State.FLIPPED)
    await finalizing.finalize(context, context.forward)
    record = await context.journal.show(context.plan.id)
    await kits.apply_limits(context, context.forward)
    await kits.copy_log(context, context.forward, since=record.result.kits_read_to)
    await finalizing.start_reverse(context)
    await keep_home(context)
    return NOTHING


async def keep_home(context: MoveContext) -> None:
    """What was made for the tenant's home is the home's now, and no leftover of the move."""
    for section in (PRE_DATA, POST_DATA):
        await context.journal.record_removed(context.plan.id, context.plan.target, "schema", section)
    await context.journal.record_removed(context.plan.id, context.plan.target, "rows", context.plan.tenant)
    if context.plan.creation is not None:
        await context.journal.record_removed(
            context.plan.id, context.plan.target, "database", context.plan.creation.name
        )


async def audit(context: MoveContext) -> MoveResult:
    started = time.monotonic()
    rows = await auditing.audit(context)
    return MoveResult(audited_rows=rows, audit_seconds=round(time.monotonic() - started, 3))


PROCEDURE: Final = steps(
    prepare_target,
    set_identities,
    publish,
    copy,
    build_indexes,
    catch_up,
    prepare_reverse,
    verify,
    flip,
    finalize,
    audit,
)


def remaining(procedure: Procedure, step: str | None) -> Procedure:
    """The steps after `step`, the last complete one. A comparison that is not followed by its flip in the same
    run is made again: somebody may have written to the target meanwhile."""
    names = [each.name for each in procedure]
    done = 0 if step is None else names.index(step) + 1
    if done and names[done - 1] == "verify":
        done -= 1
    return procedure[done:]


async def run(context: MoveContext, procedure: Procedure, step: str | None) -> None:
    """Run what remains after `step`."""
    for each in remaining(procedure, step):
        started = time.monotonic()
        context.tell(StepStarted(context.plan.id, each.name))
        result = await persist(context, each)
        seconds = time.monotonic() - started
        await persist(context, _journalling(each.name, result, seconds))
        context.tell(StepEnded(context.plan.id, each.name, seconds))


def _journalling(step: str, result: MoveResult, seconds: float) -> Step[None]:
    async def complete(context: MoveContext) -> None:
        await context.journal.complete_step(context.plan.id, step, result, seconds=seconds)

    return Step(f"journal {step}", complete, breakable=False)
