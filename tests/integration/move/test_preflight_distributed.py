"""Tables that Citus distributes do not move by logical replication. Citus itself is not here: a table with its
catalog's name and column stands in for it, so what is tested is our reader and our rule."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tenantry.move import Mechanism, State
from tests.support.estate import Estate

MADE = (
    "SET allow_system_table_mods = on; CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass);"
    "INSERT INTO pg_catalog.pg_dist_partition VALUES ('entry')"
)
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
