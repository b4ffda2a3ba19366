"""Rollback: the same fence in the other direction, with every write made since the flip."""

from __future__ import annotations

from tenantry.move.context import Work
from tenantry.move.steps import copy, fence, finalize, kits
from tenantry.move.teardown import as_far_as_it_answers, forget, is_installed, take_down


async def rollback(work: Work) -> fence.Flip:
    """Take the tenant back to the source. Idempotent."""
    await kits.bring_limits(work, work.back)
    flip = await fence.flip(work, work.back)
    await finalize.settle(work, work.back)
    await kits.settle_limits(work, work.back)
    await kits.bring_log(work, work.back)
    return flip


async def empty(work: Work) -> None:
    """Delete the target's rows, once the source is home again."""
    await work.journal.mean(work.plan.id, work.target.name, "rows", work.plan.tenant)
    if await is_installed(work, work.target):
        await copy.sweep(work, work.target, (*work.plan.tables, *work.plan.references))
    await work.journal.gone(work.plan.id, work.target.name, "rows", work.plan.tenant)


async def keep(work: Work) -> None:
    """Leave the target's rows where they are, as a leftover: what differs there may be the only good copy."""
    await work.journal.mean(work.plan.id, work.target.name, "rows", work.plan.tenant)


async def clean_up(work: Work) -> None:
    """Take away what the move has at the target but the rows, once the source is home again.

    The gate there stays, closed for ever by the flip. A target that can't be reached keeps what it has: leftovers.
    """
    with as_far_as_it_answers():
        await take_down(work, work.target, [work.reference_name], ["subscription"])
        if await is_installed(work, work.target):
            await kits.forget(work, work.target)
            await forget(work, work.target)
    await take_down(work, work.source, [work.reference_name], ["slot", "publication"])
    await forget(work, work.source)
