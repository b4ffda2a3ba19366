"""The audit after the flip: all rows of the new home against the old one, which the way back keeps current.

Going back asks the same: whoever bypasses row-level security may have changed the old home since, and once the
tenant is there its rows at the new one are deleted.
"""

from __future__ import annotations

from tenantry.move import failpoints
from tenantry.move.context import MoveContext
from tenantry.move.errors import SchemaChanged
from tenantry.move.results import MoveResult
from tenantry.move.session import session
from tenantry.move.shape import read_kin
from tenantry.move.steps import catch_up
from tenantry.move.steps.verify import compare_sides


async def audit(context: MoveContext) -> int:
    """Compare both sides in the other direction. Returns the rows.

    Raises:
        DataDiffers: they differ; the caller takes the tenant back.
        SchemaChanged: the old home got a table in the moment between the fence's look at it and the flip.
    """
    failpoints.reach("audit.started")
    await _nothing_new(context)
    await catch_up.wait_until_close(context, context.reverse)
    return await compare_sides(context, context.reverse)


async def compare_back(context: MoveContext) -> MoveResult:
    """Compare both sides before the way back's flip. Returns the rows, for the journal.

    Raises:
        DataDiffers: they differ; the tenant stays where it is.
        SchemaChanged: their tables do.
        SlotLost: nothing brings the tenant's writes to the old home any more.
    """
    await catch_up.wait_until_close(context, context.reverse)
    return MoveResult(verified_back_rows=await compare_sides(context, context.reverse))


async def _nothing_new(context: MoveContext) -> None:
    """Under the fence the tables that travel are locked, but nothing keeps a new one from being made."""
    plan = context.plan
    if not plan.load_schema:
        return  # tables that the operator has left out may be missing there
    columns, names = [table.column for table in plan.tables], [table.quoted for table in plan.tables]
    async with (
        session(context.source, f"audit {plan.id}") as source,
        session(context.target, f"audit {plan.id}") as target,
    ):
        at_source, at_target = await read_kin(source, columns, names), await read_kin(target, columns, names)
    if new := sorted(set(at_source) - set(at_target)):
        tables = ", ".join(line.removeprefix("kin ") for line in new)
        raise SchemaChanged(plan.id, f"{plan.target} lacks {tables}, made at {plan.source} at the very flip")
