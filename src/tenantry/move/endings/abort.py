"""Abort: close the gate, then take away what was made. The tenant never notices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import asyncpg

from tenantry.directory import placements
from tenantry.move.context import MoveContext
from tenantry.move.errors import MoveError
from tenantry.move.pg_dump import POST_DATA, PRE_DATA
from tenantry.move.session import Endpoint, session
from tenantry.move.steps import copy, create_database, gate, kits, prepare_target
from tenantry.move.teardown import delete_markers, ignoring_unreachable, is_installed, take_down_all
from tenantry.runtime.connection_errors import TRANSIENT


async def abort(context: MoveContext) -> bool:
    """Give the move up. False: the flip came first, so it goes forward and can be rolled back.

    A target that can't be reached does not stop an abort: what may be there stays in the journal as leftovers,
    and what would hurt the source (slots fill its disk) is gone, whatever else is wrong with the target.
    """
    async with session(context.source, f"abort {context.plan.id}") as source:
        if not await gate.close(context, context.forward, source):
            return False
    try:
        with ignoring_unreachable():
            await _clean_target(context)
    except (MoveError, asyncpg.PostgresError):
        await _clean(context, context.source)
        raise
    await _clean(context, context.source)
    return True


async def _clean_target(context: MoveContext) -> None:
    """The same at the target; as a whole if this move has made it and it holds nothing else."""
    if context.plan.creation is None:
        await _clean(context, context.target)
    elif not await create_database.is_ours(context):
        await create_database.drop_unfinished(context)
    else:
        await take_down_all(context, context.target)
        if not await create_database.drop_if_unused(context):
            await _clean(context, context.target)


async def _clean(context: MoveContext, place: Endpoint) -> None:
    """Take away all of the move's objects in one database; its subscriptions first."""
    await take_down_all(context, place)
    if await is_installed(context, place):
        if place is context.target:
            await _empty(context)
        await delete_markers(context, place)
    else:
        for kind, name in await context.journal.objects(context.plan.id, place.name):
            if kind != "database":
                await context.journal.record_removed(context.plan.id, place.name, kind, name)


async def _empty(context: MoveContext) -> None:
    """Delete the tenant's rows at the target, if the move has brought any; a schema that was half loaded is
    completed, so that the next move finds it whole."""
    plan = context.plan
    async with session(context.target, f"abort {plan.id}") as target:
        # A copy under the fence that died may have left the target's row pointing at itself; see steps/offline.py.
        await placements.point(target, plan.tenant, plan.source, plan.epoch)
        placed = await placements.read(target, plan.tenant)
        loaded = await target.fetchval("SELECT count(*) FROM tenantry.move_loaded WHERE move = $1", plan.id)
    if placed is not None and placed.database == context.target.name:
        raise MoveError(f"tenant {plan.tenant} is at home in {context.target.name}: its rows stay")
    if ("rows", plan.tenant) in await context.journal.objects(plan.id, plan.target):
        await copy.delete_rows(context, context.target, (*plan.tables, *plan.references))
    if loaded:
        with _as_far_as_it_fits():
            await prepare_target.load(context, POST_DATA)
        with _as_far_as_it_fits():
            await kits.watch_tables(context)
    await kits.delete_plan(context, context.target)
    for section in (PRE_DATA, POST_DATA):
        await context.journal.record_removed(plan.id, plan.target, "schema", section)
    await context.journal.record_removed(plan.id, plan.target, "rows", plan.tenant)


@contextlib.contextmanager
def _as_far_as_it_fits() -> Iterator[None]:
    """What the source has now may not fit what was loaded; then the next preflight names what differs."""
    try:
        yield
    except TRANSIENT:
        raise
    except (MoveError, asyncpg.PostgresError):
        return
