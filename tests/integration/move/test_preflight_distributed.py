"""Tables that Citus distributes move by a copy under the fence.

Citus itself is not here: a table with its catalog's name and columns stands in for it, so what is tested is our
reader, our rules and our statements. Real Citus: tests/integration/citus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tenantry.move import Mechanism, State
from tenantry.move.progress import Deleted
from tests.support.citus import PRETEND
from tests.support.estate import LIMITS, Estate

MADE = """
SET allow_system_table_mods = on;
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass, partkey text);
INSERT INTO pg_catalog.pg_dist_partition
SELECT attrelid, '{VAR :varno 1 :varattno ' || attnum || ' }' FROM pg_attribute
WHERE attrelid = 'entry'::regclass AND attname = 'tenant_id'
"""
GONE = "SET allow_system_table_mods = on; DROP TABLE pg_catalog.pg_dist_partition"


@pytest.fixture
def distributed(estate18: Estate) -> Iterator[Estate]:
    estate18.near.psql(MADE, estate18.shared)
    yield estate18
    estate18.near.psql(GONE, estate18.shared)


async def test_distributed_tables_are_refused_for_replication_and_offered_the_copy_under_the_fence(
    distributed: Estate,
) -> None:
    mover = distributed.mover()
    plan = await mover.plan(distributed.tenant, "acme")
    (refusal,) = plan.refusals
    assert refusal.code == "distributed-tables"
    assert '"public"."entry" in shared' in refusal.problem
    assert "--pause" in refusal.fix
    plan = await mover.plan(distributed.tenant, "acme", consent=30.0)
    assert (plan.refusals, plan.mechanism) == ((), Mechanism.COPY)


async def test_the_rows_of_a_distributed_table_are_read_for_the_estimate_and_deleted_by_their_key(
    distributed: Estate,
) -> None:
    mover = distributed.mover(limits=replace(LIMITS, delete_batch=70, delete_pause=0.0))
    plan = await mover.plan(distributed.tenant, "acme", consent=30.0)
    [entry] = [table for table in plan.tables if table.name == "entry"]
    assert entry.rows == 200
    assert entry.bytes > 200 * 30
    told: list[Any] = []
    await mover.release((await mover.run(plan)).id, told.append)
    rows = [one.rows for one in told if isinstance(one, Deleted) and one.table == entry.quoted]
    assert rows == [70, 140, 200]
    left = await distributed.fetch("shared", "SELECT DISTINCT tenant_id FROM entry")
    assert {row["tenant_id"] for row in left} == set(distributed.tenants[1:])


async def test_a_schema_is_not_brought_to_a_database_with_citus_and_no_tables(estate18: Estate) -> None:
    async with estate18.admin("acme") as admin:
        await admin.execute(PRETEND)
    plan = await estate18.mover().plan(estate18.tenant, "acme", consent=30.0)
    assert "not-distributed" in {one.code for one in plan.refusals}
    async with estate18.admin("acme") as admin:
        await admin.execute("DELETE FROM pg_extension WHERE extname = 'citus'")


async def test_a_copy_under_the_fence_can_be_chosen_where_replication_works(estate18: Estate) -> None:
    mover = estate18.mover()
    plan = await mover.plan(estate18.tenant, "acme", consent=30.0)
    assert (plan.refusals, plan.mechanism) == ((), Mechanism.COPY)
    before = await estate18.checksums("shared")
    record = await mover.run(plan)
    assert (record.state, record.step) == (State.FLIPPED, "finalize")
    there = await estate18.checksums("acme")
    assert there == {key: found for key, found in before.items() if key[1] == estate18.tenant}
    assert await estate18.fetch("acme", "SELECT 1 FROM pg_subscription") == []
