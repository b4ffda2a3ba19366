"""The whole schema on the target's empty tables, before a row is copied: that it loads, and is the source's.

Keys, indexes, foreign keys and triggers come after the copy, because tables without them fill faster. What of them
the target refuses, or takes for something else than the source, is better known before.
"""

from __future__ import annotations

from tenantry.move.context import MoveContext
from tenantry.move.definitions import differences
from tenantry.move.errors import MoveStopped, SchemaChanged
from tenantry.move.pg_dump import POST_DATA, dump
from tenantry.move.session import blaming, session
from tenantry.move.shape import read_definitions


async def rehearse(context: MoveContext) -> None:
    """Load what comes after the rows, compare both ends' definitions, and take it back.

    Raises:
        SchemaChanged: the target's tables would not be the source's; which, and how.
        asyncpg.PostgresError: the target does not take the schema.
    """
    plan = context.plan
    if not plan.load_schema:
        return
    if context.pg_dump is None:
        raise MoveStopped(plan.id, "no pg_dump was found for the source's version")
    text = await dump(context.pg_dump, context.source, POST_DATA)
    async with (
        session(context.source, f"rehearse {plan.id}") as source,
        session(context.target, f"rehearse {plan.id}") as target,
    ):
        loaded = "SELECT 1 FROM tenantry.move_loaded WHERE move = $1 AND section = $2"
        if await target.fetchval(loaded, plan.id, POST_DATA):
            return
        ours = await read_definitions(source, plan.names())
        transaction = target.transaction()
        await transaction.start()
        try:
            with blaming(context.target):
                await target.execute(text)
            await target.execute("SET LOCAL search_path = pg_catalog")
            theirs = await read_definitions(target, plan.names())
        finally:
            await transaction.rollback()
    if odd := differences(ours, theirs):
        told = "; ".join(one.told(plan.source, plan.target) for one in odd[:5])
        raise SchemaChanged(plan.id, f"the schema that {plan.target} was given is not the source's: {told}")
