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
from tenantry.move.context import Work
from tenantry.move.errors import DataDiffers, MoveError, MoveStopped
from tenantry.move.interrupt import Interrupted
from tenantry.move.progress import Retrying, StepEnded, StepStarted
from tenantry.move.session import session
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
    work: Callable[[Work], Coroutine[Any, Any, Result]]
    breakable: bool = True
    """False: an operator's wish to stop waits until its end."""


async def prepare_target(work: Work) -> Result:
    failpoints.reach("K1")
    await create_database.create(work)
    await install(work)
    await kits.install(work)
    await load(work, PRE_DATA)
    failpoints.reach("K2")
    await write_closed_placement(work)
    failpoints.reach("K3")
    return {}


async def identity(work: Work) -> Result:
    async with session(work.source, f"identity {work.plan.id}") as source:
        await replication.identities(work, source)
        await gate.put(work, work.out, source)
    failpoints.reach("K4")
    return {}


async def publication(work: Work) -> Result:
    plan, journal = work.plan, work.journal
    await journal.mean(plan.id, plan.source, "publication", work.name(work.out))
    if plan.references:
        await journal.mean(plan.id, plan.source, "publication", work.reference_name)
    async with session(work.source, f"publish {plan.id}") as source:
        await replication.publish(work, work.out, source, replication.CARRIED)
        if plan.references:
            await replication.publish_reference(work, source)
    failpoints.reach("K5")
    return {}


async def copying(work: Work) -> Result:
    """The slot's snapshot dies with us, so a copy that was interrupted starts again with a new slot."""
    plan, journal = work.plan, work.journal
    started = time.monotonic()
    names = [work.name(work.out), *([work.reference_name] if plan.references else [])]
    for name in names:
        await journal.mean(plan.id, plan.source, "slot", name)
        await journal.mean(plan.id, plan.target, "subscription", name)
    await journal.mean(plan.id, plan.target, "rows", plan.tenant)
    async with (
        session(work.source, f"copy {plan.id}") as source,
        session(work.target, f"copy {plan.id}") as there,
    ):
        for name in names:
            await replication.drop_subscription(there, name)
            await replication.drop_slot(source, name)
        await copy.clear(work, work.target, (*plan.tables, *plan.references))
        async with replication.slot_with_snapshot(work, work.out) as snapshot:
            failpoints.reach("K6")
            for name in names:
                await replication.subscribe(there, work.source, name, origin="any")
            failpoints.reach("K7")
            async with counted(work) as copied:
                rows = await copy.copy_all(copied.work, snapshot)
    seconds = round(time.monotonic() - started, 3)
    return {"copied_rows": rows, "copied_bytes": copied.bytes, "copy_seconds": seconds}


async def indexes(work: Work) -> Result:
    # A copy whose tables were changed under it has missed rows: better told as that than by a foreign key.
    async with session(work.source, f"indexes {work.plan.id}") as source:
        await catch_up.unchanged(work.plan, source)
    await load(work, POST_DATA)
    await apply_autovacuum(work)
    found = await kits.bring(work)
    await start_sequences(work)
    async with session(work.target, f"indexes {work.plan.id}") as there:
        await replication.identities(work, there)
        names = ", ".join(table.quoted for table in (*work.plan.tables, *work.plan.references))
        await there.execute(f"ANALYZE {names}")
    failpoints.reach("K10")
    return found


async def following(work: Work) -> Result:
    async with session(work.target, f"follow {work.plan.id}") as there:
        await replication.enable(there, work.name(work.out))
        if work.plan.references:
            await replication.enable(there, work.reference_name)
    failpoints.reach("K9")
    return {"probe_seconds": round(await catch_up.catch_up(work, work.out), 4)}


async def way_back(work: Work) -> Result:
    plan, journal, name = work.plan, work.journal, work.name(work.back)
    await journal.mean(plan.id, plan.target, "publication", name)
    await journal.mean(plan.id, plan.target, "slot", name)
    await journal.mean(plan.id, plan.source, "subscription", name)
    async with (
        session(work.source, f"way back {plan.id}") as source,
        session(work.target, f"way back {plan.id}") as there,
    ):
        await gate.put(work, work.back, there)
        await replication.publish(work, work.back, there, replication.NOTHING)
        await replication.make_slot(work, work.target, there, name)
        await replication.subscribe(source, work.target, name, origin="none")
    failpoints.reach("K12")
    return {}


async def verification(work: Work) -> Result:
    failpoints.reach("K11")
    started = time.monotonic()
    rows = await verify(work, work.out)
    rows += await compare_references(work)
    return {"verified_rows": rows, "verify_seconds": round(time.monotonic() - started, 3)}


async def flipping(work: Work) -> Result:
    await kits.bring_limits(work, work.out)
    flip = await fence.flip(work, work.out)
    await work.journal.enter(work.plan, State.FLIPPED, {"pause": round(flip.pause, 4)})
    return {"pause_seconds": round(flip.pause, 4), "fences": flip.attempts}


async def settling(work: Work) -> Result:
    await work.journal.enter(work.plan, State.FLIPPED)
    await finalize.settle(work, work.out)
    record = await work.journal.show(work.plan.id)
    await kits.settle_limits(work, work.out)
    await kits.bring_log(work, work.out, since=record.result.get("kits_read_to"))
    await finalize.turn_round(work)
    await keep_home(work)
    return {}


async def keep_home(work: Work) -> None:
    """What was made for the tenant's home is the home's now, and no leftover of the move."""
    for section in (PRE_DATA, POST_DATA):
        await work.journal.gone(work.plan.id, work.plan.target, "schema", section)
    await work.journal.gone(work.plan.id, work.plan.target, "rows", work.plan.tenant)
    if work.plan.creation is not None:
        await work.journal.gone(work.plan.id, work.plan.target, "database", work.plan.creation.name)


async def audit(work: Work) -> Result:
    started = time.monotonic()
    rows = await auditing.audit(work)
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


async def run(work: Work, procedure: tuple[Step, ...], step: str | None) -> None:
    """Run what remains after `step`."""
    for each in remaining(procedure, step):
        started = time.monotonic()
        work.tell(StepStarted(work.plan.id, each.name))
        result = await persist(work, each)
        seconds = time.monotonic() - started
        await persist(work, _journalling(each.name, result, seconds))
        work.tell(StepEnded(work.plan.id, each.name, seconds))


def _journalling(step: str, result: Result, seconds: float) -> Step:
    async def complete(work: Work) -> Result:
        await work.journal.complete(work.plan.id, step, result, seconds=seconds)
        return {}

    return Step(f"journal {step}", complete, breakable=False)


async def persist(work: Work, step: Step) -> Result:
    """Run a step, again and again while connections break, within the limits' patience.

    Raises:
        MoveStopped: they go on breaking.
        LeaseLost: another mover runs the move, or has gone on with it.
    """
    deadline = time.monotonic() + work.limits.patience
    wait = 0.1
    while True:
        try:
            # What broke our sessions may have taken the lease with it, and another mover may have gone on: to
            # begin, or begin again, would undo what it has done.
            await work.lease.check()
            return await (work.interrupt.run(step.work(work)) if step.breakable else step.work(work))
        except (MoveError, Interrupted, asyncio.CancelledError):
            raise
        except (*TRANSIENT, asyncpg.PostgresError, ExceptionGroup) as error:
            cause = first_cause(error)
            if isinstance(cause, MoveError) and not isinstance(cause, DataDiffers):
                raise cause from error
            # A full disk is no broken connection: it is not tried again until somebody has made room.
            lasting = not isinstance(cause, TRANSIENT) or isinstance(cause, asyncpg.DiskFullError)
            if lasting or time.monotonic() + wait > deadline:
                raise MoveStopped(work.plan.id, f"step {step.name}: {describe(cause)}") from error
            work.tell(Retrying(work.plan.id, step.name, describe(cause), wait))
            await work.interrupt.run(asyncio.sleep(wait))
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
