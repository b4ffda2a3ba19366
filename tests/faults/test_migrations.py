"""F29: a migration of the schema under a move, and a move that is begun under a migration."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tenantry.move import MoveStopped, SchemaChanged, State
from tests.support.estate import Estate
from tests.support.process import MoverProcess
from tests.support.until import until

CHANGE = "ALTER TABLE account ADD COLUMN colour text NOT NULL DEFAULT 'none' CHECK (colour IN ('none', 'red'))"
WAITS = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'tenantry%')
"""


async def test_a_move_that_is_begun_under_a_migration_waits_for_it_and_carries_its_column(
    estate18: Estate,
) -> None:
    migration = await asyncpg.connect(estate18.endpoints["shared"].dsn)
    try:
        await migration.execute(f"BEGIN; {CHANGE}; UPDATE account SET colour = 'red'")
        mover = estate18.mover()
        planning = asyncio.create_task(mover.plan(estate18.tenant, "acme"))
        await until(lambda: estate18.near.psql(WAITS) == "t" or planning.done())
        await migration.execute("COMMIT")
        plan = await planning
    finally:
        await migration.close()
    if any(one.code == "bypassing-writer" for one in plan.refusals):  # it was looked at before the migration ended
        plan = await mover.plan(estate18.tenant, "acme")
    assert plan.refusals == ()
    assert (await mover.run(plan)).state is State.FLIPPED
    rows = await estate18.fetch("acme", "SELECT DISTINCT colour FROM account")
    assert [row["colour"] for row in rows] == ["red"]


@pytest.mark.parametrize("point", ["publication.created", "copy.half", "reverse.prepared"])
async def test_a_migration_under_a_move_stops_it_by_name_before_the_flip(estate18: Estate, point: str) -> None:
    process = MoverProcess(estate18, "move", str(estate18.tenant), failpoints=f"{point}=stop")
    try:
        await process.stopped()
        estate18.near.psql(CHANGE, estate18.shared)
        process.go_on()
        code, output = await process.ended()
    finally:
        process.end()
    assert code
    assert "SchemaChanged" in output
    mover = estate18.mover()
    (record,) = await mover.list()
    with pytest.raises((SchemaChanged, MoveStopped)):
        await mover.resume(record.id)
    assert (await mover.abort(record.id)).state is State.ABORTED
    assert (await estate18.homes())["control"] == ("shared", 1)
    again = await mover.plan(estate18.tenant, "acme")
    # What the move had loaded stays, and is told to be of the version before.
    assert {one.code for one in again.refusals} <= {"schema-differs"}
    assert any("acme lacks column public.account.colour" in one.problem for one in again.refusals)
