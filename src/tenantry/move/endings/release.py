"""Release: give up the way back, and delete the tenant's old rows without anybody noticing."""

from __future__ import annotations

import asyncio

from tenantry.move import failpoints
from tenantry.move.context import Work
from tenantry.move.errors import WrongState
from tenantry.move.plan import Mechanism, TablePlan
from tenantry.move.progress import Deleted
from tenantry.move.session import Connection, Endpoint, session
from tenantry.move.steps import gate, kits
from tenantry.move.steps.copy import away
from tenantry.move.teardown import forget, take_down_way
from tenantry.runtime.sqltext import identifier


async def release(work: Work) -> int:
    """Close the gate of the way back, take the replication down, delete the old rows. Returns how many.

    The gate comes first: from then on no rollback can be under way while rows are deleted.
    """
    if work.plan.mechanism is Mechanism.REPLICATION:
        async with session(work.target, f"release {work.plan.id}") as target:
            if not await gate.close(work, work.back, target):
                raise WrongState(work.plan.id, "rolled back", "released", "plan a new move")
        await take_down_way(work, work.back)
    failpoints.reach("K16")
    await work.journal.mean(work.plan.id, work.source.name, "rows", work.plan.tenant)
    deleted = await delete_rows(work, work.source, work.plan.tables)
    await work.journal.gone(work.plan.id, work.source.name, "rows", work.plan.tenant)
    await work.journal.gone(work.plan.id, work.target.name, "rows", work.plan.tenant)
    await kits.forget(work, work.source)
    for place in (work.source, work.target):
        await forget(work, place)
    return deleted


async def delete_rows(work: Work, place: Endpoint, tables: tuple[TablePlan, ...]) -> int:
    """Delete the tenant's rows in small transactions, in the key's order, with a pause after each.

    As a replica: no triggers, and no cascades into other rows; the tenant's rows go table by table.
    """
    total = 0
    purpose = f"release {work.plan.id}"
    async with session(place, purpose, session_replication_role="replica") as connection:
        for table in tables:
            rows = 0
            while batch := await _delete_batch(work, place, connection, table):
                failpoints.reach("K16")
                rows += batch
                work.tell(Deleted(work.plan.id, table.quoted, rows))
                await asyncio.sleep(work.limits.delete_pause)
            total += rows
    return total


async def _delete_batch(work: Work, place: Endpoint, connection: Connection, table: TablePlan) -> int:
    order = ", ".join(f"t.{identifier(name)}" for name in table.key)
    batch = (
        f"SELECT t.tableoid AS oid, t.ctid AS row FROM {table.quoted} AS t "  # noqa: S608  quoted
        f"WHERE {table.where(work.plan.tenant)} "
        f"{f'ORDER BY {order}' if order else ''} LIMIT {work.limits.delete_batch}"
    )
    async with away(work, place, connection):
        status = await connection.execute(
            f"DELETE FROM {table.quoted} AS gone USING ({batch}) AS old "  # noqa: S608  quoted
            "WHERE gone.tableoid = old.oid AND gone.ctid = old.row"
        )
    return int(status.split()[-1])
