"""Rollback: the same fence in the other direction, with every write made since the flip."""

from __future__ import annotations

from tenantry.move.context import MoveContext
from tenantry.move.steps import copy, fence, finalize, kits
from tenantry.move.teardown import delete_markers, ignoring_unreachable, is_installed, take_down


async def rollback(context: MoveContext) -> fence.Flip:
    """Take the tenant back to the source. Idempotent."""
    await kits.copy_limits(context, context.reverse)
    flip = await fence.flip(context, context.reverse)
    await finalize.finalize(context, context.reverse)
    await kits.apply_limits(context, context.reverse)
    await kits.copy_log(context, context.reverse)
    return flip


async def empty(context: MoveContext) -> None:
    """Delete the target's rows, once the source is home again."""
    await context.journal.record_intent(context.plan.id, context.target.name, "rows", context.plan.tenant)
    if await is_installed(context, context.target):
        await copy.delete_rows(context, context.target, (*context.plan.tables, *context.plan.references))
    await context.journal.record_removed(context.plan.id, context.target.name, "rows", context.plan.tenant)


async def keep(context: MoveContext) -> None:
    """Leave the target's rows where they are, as a leftover: what differs there may be the only good copy."""
    await context.journal.record_intent(context.plan.id, context.target.name, "rows", context.plan.tenant)


async def clean_up(context: MoveContext) -> None:
    """Take away what the move has at the target but the rows, once the source is home again.

    The gate there stays, closed for ever by the flip. A target that can't be reached keeps what it has: leftovers.
    """
    with ignoring_unreachable():
        await take_down(context, context.target, [context.reference_name], ["subscription"])
        if await is_installed(context, context.target):
            await kits.delete_plan(context, context.target)
            await delete_markers(context, context.target)
    await take_down(context, context.source, [context.reference_name], ["slot", "publication"])
    await delete_markers(context, context.source)
