"""Rollback: the same fence in the other direction, with every write made since the flip."""

from __future__ import annotations

from tenantry.move import copy, fence, kit_state, settle
from tenantry.move.abort import drop_reference
from tenantry.move.release import forget
from tenantry.move.work import Work


async def rollback(work: Work) -> fence.Flip:
    """Take the tenant back to the source. Idempotent."""
    await kit_state.bring_limits(work, work.back)
    flip = await fence.flip(work, work.back)
    await settle.settle(work, work.back)
    await kit_state.settle_limits(work, work.back)
    await kit_state.bring_log(work, work.back)
    return flip


async def clean_up(work: Work) -> None:
    """Empty the target, once the source is home again. Its gate stays, closed for ever by the flip."""
    await drop_reference(work)
    await copy.clear(work, work.target, (*work.plan.tables, *work.plan.references))
    await work.journal.gone(work.plan.id, work.target.name, "rows", work.plan.tenant)
    await kit_state.forget(work, work.target)
    await forget(work)
