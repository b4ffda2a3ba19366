"""Abort: close the gate, then take away what was made. The tenant never notices."""

from __future__ import annotations

import contextlib

import asyncpg

from tenantry.move import copy, create, gate, kit_state, target
from tenantry.move.endpoint import BROKEN, Endpoint, session
from tenantry.move.errors import MoveError
from tenantry.move.publish import drop_publication, drop_slot, drop_subscription
from tenantry.move.settle import take_down_named
from tenantry.move.work import Work


async def abort(work: Work) -> bool:
    """Give the move up. False: the flip came first, so it goes forward and can be rolled back.

    A target that can't be reached does not stop an abort: what may be there stays in the journal as leftovers,
    and what would hurt the source (slots fill its disk) is gone.
    """
    async with session(work.source, f"abort {work.plan.id}") as source:
        if not await gate.close(work, work.out, source):
            return False
    with contextlib.suppress(*BROKEN):
        await _clean_target(work)
    await _clean(work, work.source)
    return True


async def _clean_target(work: Work) -> None:
    """The same at the target; as a whole if this move has made it and it holds nothing else."""
    if work.plan.creation is None:
        await _clean(work, work.target)
    elif not await create.is_ours(work):
        await create.forget(work)
    else:
        await _unlink(work, work.target)
        if not await create.take_away(work):
            await _clean(work, work.target)


async def _clean(work: Work, place: Endpoint) -> None:
    """Take away all of the move's objects in one database; its subscriptions first."""
    move = work.plan.id
    await _unlink(work, place)
    async with session(place, f"abort {move}") as connection:
        if not await connection.fetchval("SELECT to_regclass('tenantry.move_loaded') IS NOT NULL"):
            return  # nothing was installed here yet
        if place is work.target:
            await _empty(work)
        await connection.execute("DELETE FROM tenantry.move_marker WHERE move = $1", move)
        await connection.execute("DELETE FROM tenantry.move_loaded WHERE move = $1", move)


async def _unlink(work: Work, place: Endpoint) -> None:
    """Take the replication down in one database."""
    move = work.plan.id
    objects = (work.name(work.out), work.name(work.back), work.reference_name)
    async with session(place, f"abort {move}") as connection:
        for name in objects:
            await drop_subscription(connection, name)
            await work.journal.gone(move, place.name, "subscription", name)
        for name in objects:
            await drop_slot(connection, name)
            await work.journal.gone(move, place.name, "slot", name)
            await drop_publication(connection, name)
            await work.journal.gone(move, place.name, "publication", name)


async def _empty(work: Work) -> None:
    """Delete the tenant's rows at the target; a schema that was half loaded is completed, so that the next move
    finds it whole."""
    plan = work.plan
    async with session(work.target, f"abort {plan.id}") as there:
        # A copy under the fence that died may have left the target's row pointing at itself; see consented.py.
        await there.execute(
            "UPDATE tenantry.placement SET home = $2 WHERE tenant = $1 AND epoch = $3",
            plan.tenant,
            plan.source,
            plan.epoch,
        )
        home = await there.fetchval("SELECT home FROM tenantry.placement WHERE tenant = $1", plan.tenant)
        loaded = await there.fetchval("SELECT count(*) FROM tenantry.move_loaded WHERE move = $1", plan.id)
    if home == work.target.name:
        raise MoveError(f"tenant {plan.tenant} is at home in {work.target.name}: its rows stay")
    if loaded or not plan.load_schema:
        await copy.clear(work, work.target, (*plan.tables, *plan.references))
    if loaded:
        # What the source has now may not fit what was loaded; then the next preflight names what differs.
        with contextlib.suppress(asyncpg.exceptions.SyntaxOrAccessError):
            await target.load(work, target.POST_DATA)
        await kit_state.watch(work)
    await kit_state.forget(work, work.target)
    for section in (target.PRE_DATA, target.POST_DATA):
        await work.journal.gone(plan.id, plan.target, "schema", section)
    await work.journal.gone(plan.id, plan.target, "rows", plan.tenant)


async def drop_reference(work: Work) -> None:
    """Take the reference tables' replication down."""
    if work.plan.references:
        await take_down_named(work, work.reference_name, work.source, work.target)
