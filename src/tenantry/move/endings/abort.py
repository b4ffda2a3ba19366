"""Abort: close the gate, then take away what was made. The tenant never notices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import asyncpg

from tenantry.directory import placements
from tenantry.move.context import Work
from tenantry.move.errors import MoveError
from tenantry.move.session import Endpoint, session
from tenantry.move.steps import copy, create_database, gate, kits, prepare_target
from tenantry.move.teardown import as_far_as_it_answers, forget, is_installed, take_down_all
from tenantry.runtime.connection_errors import TRANSIENT


async def abort(work: Work) -> bool:
    """Give the move up. False: the flip came first, so it goes forward and can be rolled back.

    A target that can't be reached does not stop an abort: what may be there stays in the journal as leftovers,
    and what would hurt the source (slots fill its disk) is gone, whatever else is wrong with the target.
    """
    async with session(work.source, f"abort {work.plan.id}") as source:
        if not await gate.close(work, work.out, source):
            return False
    try:
        with as_far_as_it_answers():
            await _clean_target(work)
    except (MoveError, asyncpg.PostgresError):
        await _clean(work, work.source)
        raise
    await _clean(work, work.source)
    return True


async def _clean_target(work: Work) -> None:
    """The same at the target; as a whole if this move has made it and it holds nothing else."""
    if work.plan.creation is None:
        await _clean(work, work.target)
    elif not await create_database.is_ours(work):
        await create_database.forget(work)
    else:
        await take_down_all(work, work.target)
        if not await create_database.take_away(work):
            await _clean(work, work.target)


async def _clean(work: Work, place: Endpoint) -> None:
    """Take away all of the move's objects in one database; its subscriptions first."""
    await take_down_all(work, place)
    if await is_installed(work, place):
        if place is work.target:
            await _empty(work)
        await forget(work, place)
    else:
        for kind, name in await work.journal.objects(work.plan.id, place.name):
            if kind != "database":
                await work.journal.gone(work.plan.id, place.name, kind, name)


async def _empty(work: Work) -> None:
    """Delete the tenant's rows at the target, if the move has brought any; a schema that was half loaded is
    completed, so that the next move finds it whole."""
    plan = work.plan
    async with session(work.target, f"abort {plan.id}") as there:
        # A copy under the fence that died may have left the target's row pointing at itself; see consented.py.
        await placements.point(there, plan.tenant, plan.source, plan.epoch)
        placed = await placements.read(there, plan.tenant)
        loaded = await there.fetchval("SELECT count(*) FROM tenantry.move_loaded WHERE move = $1", plan.id)
    if placed is not None and placed.home == work.target.name:
        raise MoveError(f"tenant {plan.tenant} is at home in {work.target.name}: its rows stay")
    if ("rows", plan.tenant) in await work.journal.objects(plan.id, plan.target):
        await copy.sweep(work, work.target, (*plan.tables, *plan.references))
    if loaded:
        with _as_far_as_it_fits():
            await prepare_target.load(work, prepare_target.POST_DATA)
        with _as_far_as_it_fits():
            await kits.watch(work)
    await kits.forget(work, work.target)
    for section in (prepare_target.PRE_DATA, prepare_target.POST_DATA):
        await work.journal.gone(plan.id, plan.target, "schema", section)
    await work.journal.gone(plan.id, plan.target, "rows", plan.tenant)


@contextlib.contextmanager
def _as_far_as_it_fits() -> Iterator[None]:
    """What the source has now may not fit what was loaded; then the next preflight names what differs."""
    try:
        yield
    except TRANSIENT:
        raise
    except (MoveError, asyncpg.PostgresError):
        return
