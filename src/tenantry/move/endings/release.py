"""Release: give up the way back, and delete the tenant's old rows without anybody noticing."""

from __future__ import annotations

import asyncio

from tenantry.move import distribution, failpoints
from tenantry.move.context import MoveContext
from tenantry.move.errors import WrongState
from tenantry.move.plan import Mechanism, TablePlan
from tenantry.move.progress import Deleted
from tenantry.move.session import Connection, Endpoint, session
from tenantry.move.steps import gate, kits
from tenantry.move.steps.copy import deletion_allowed
from tenantry.move.teardown import delete_markers, take_down_direction


async def release(context: MoveContext) -> int:
    """Close the gate of the way back, take the replication down, delete the old rows. Returns how many.

    The gate comes first: from then on no rollback can be under way while rows are deleted.
    """
    if context.plan.mechanism is Mechanism.REPLICATION:
        async with session(context.target, f"release {context.plan.id}") as target:
            if not await gate.close(context, context.reverse, target):
                raise WrongState(context.plan.id, "rolled back", "released", "plan a new move")
        await take_down_direction(context, context.reverse)
    failpoints.reach("release.deleting")
    await context.journal.record_intent(context.plan.id, context.source.name, "rows", context.plan.tenant)
    deleted = await delete_in_batches(context, context.source, context.plan.tables)
    await context.journal.record_removed(context.plan.id, context.source.name, "rows", context.plan.tenant)
    await context.journal.record_removed(context.plan.id, context.target.name, "rows", context.plan.tenant)
    await kits.delete_plan(context, context.source)
    for place in (context.source, context.target):
        await delete_markers(context, place)
    return deleted


async def delete_in_batches(context: MoveContext, place: Endpoint, tables: tuple[TablePlan, ...]) -> int:
    """Delete the tenant's rows in small transactions, in the key's order, with a pause after each.

    As a replica: no triggers, and no cascades into other rows; the tenant's rows go table by table.
    """
    total = 0
    purpose = f"release {context.plan.id}"
    async with session(place, purpose, session_replication_role="replica") as connection:
        distributed = await distribution.read(connection, [table.quoted for table in tables])
        for table in tables:
            rows = 0
            deletion = table.deletion(
                context.plan.tenant, context.limits.delete_batch, distribution=distributed.get(table.quoted)
            )
            while batch := await _delete_batch(context, place, connection, deletion):
                failpoints.reach("release.deleting")
                rows += batch
                context.tell(Deleted(context.plan.id, table.quoted, rows))
                await asyncio.sleep(context.limits.delete_pause)
            total += rows
    return total


async def _delete_batch(context: MoveContext, place: Endpoint, connection: Connection, deletion: str) -> int:
    async with deletion_allowed(context, place, connection):
        status = await connection.execute(deletion)
    return int(status.split()[-1])
