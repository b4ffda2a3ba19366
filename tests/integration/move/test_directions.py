"""Demote, move within one cluster, on PostgreSQL 15, between majors, and without logical replication."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import Mechanism, MoveRefused, State, WrongState
from tests.support.estate import Estate
from tests.support.load import check, load


async def there_and_back(estate: Estate, times: int = 1, think: float | None = None) -> None:
    """Promote and demote under load; every promotion is released before the next one."""
    mover = estate.mover()
    async with load(estate, think=think) as running:
        for _ in range(times):
            for target in ("acme", "shared"):
                plan = await mover.plan(estate.tenant, target)
                assert plan.refusals == ()
                record = await mover.run(plan)
                await running.reach(estate.tenant, 10)
                assert (await mover.release(record.id)).state is State.RELEASED
    print(await check(estate, running))
    rows = await estate.fetch("shared", "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM entry")
    assert rows[0]["n"] == rows[0]["ids"]


async def test_a_tenant_comes_home_by_demotion_with_all_it_wrote(estate18: Estate) -> None:
    await there_and_back(estate18)


@pytest.mark.faults
async def test_source_and_target_in_one_cluster(pg18: EmbeddedServer) -> None:
    estate = await Estate.make(pg18, pg18)
    await there_and_back(estate)
    estate.drop()


@pytest.mark.faults
async def test_an_older_server_hands_over_to_a_newer_one(pg16: EmbeddedServer, far18: EmbeddedServer) -> None:
    estate = await Estate.make(pg16, far18)
    await there_and_back(estate)
    estate.drop()


async def test_a_move_from_postgresql_15_without_the_origin_filter_carries_every_row_once(
    pg15: EmbeddedServer, far18: EmbeddedServer
) -> None:
    estate = await Estate.make(pg15, far18)
    mover = estate.mover()
    async with load(estate) as running:
        record = await mover.run(await mover.plan(estate.tenant, "acme"))
        await running.reach(estate.tenant, 20)
        await mover.rollback(record.id)
        await running.reach(estate.tenant, 20)
    await check(estate, running)
    estate.drop()


@pytest.mark.faults
@pytest.mark.timeout(5400)
async def test_promoted_and_demoted_many_times_ids_stay_unique(estate18: Estate) -> None:
    """F23. Its clients leave the mover most of the cores, or an hour would not do."""
    await there_and_back(estate18, times=100, think=0.05)


@pytest.fixture(scope="module")
def plain() -> Iterator[EmbeddedServer]:
    """A server without logical replication."""
    with EmbeddedServer.start(16, settings={"wal_level": "replica"}) as server:
        yield server


async def test_without_logical_replication_the_copy_under_the_fence_wants_consent(
    plain: EmbeddedServer, far16: EmbeddedServer
) -> None:
    estate = await Estate.make(plain, far16)
    mover = estate.mover()
    refused = await mover.plan(estate.tenant, "acme")
    assert "wal-level" in [finding.code for finding in refused.refusals]
    with pytest.raises(MoveRefused):
        await mover.run(await mover.plan(estate.tenant, "acme", consent=0.01))
    async with load(estate) as running:
        plan = await mover.plan(estate.tenant, "acme", consent=8.0)
        assert plan.mechanism is Mechanism.COPY
        record = await mover.run(plan)
        assert record.state is State.FLIPPED
        found = record.result.found()
        # As much is told of this copy as of one by replication: how much it was, and that all of it was compared.
        assert found["copied_rows"] == found["verified_rows"] > 200
        assert found["copied_bytes"] > 0
        assert await mover.leftovers() == []  # there is no way back, and the rest is the home's own now
        await running.reach(estate.tenant, 20)
        with pytest.raises(WrongState, match="new move"):
            await mover.rollback(record.id)
        await mover.release(record.id)
        assert await mover.leftovers() == []
    assert await estate.homes() == {"shared": ("acme", 2), "acme": ("acme", 2), "control": ("acme", 2)}
    print(await check(estate, running))
    estate.drop()
