"""F18, F20: two movers at once, and what an earlier move has left."""

from __future__ import annotations

import asyncio

import pytest

from tenantry.move import MoveBusy, State
from tests.faults.estate import Estate
from tests.faults.load import check, load
from tests.faults.process import MoverProcess


async def test_of_two_movers_of_one_tenant_one_wins_and_the_other_says_why(estate18: Estate) -> None:
    mover = estate18.mover()
    plans = [await mover.plan(estate18.tenant, "acme") for _ in range(2)]
    results = await asyncio.gather(*(mover.run(plan) for plan in plans), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["MoveBusy", "MoveRecord"]
    assert "is being moved already" in str(next(r for r in results if isinstance(r, MoveBusy)))


@pytest.mark.faults
async def test_a_running_move_can_not_be_resumed_by_another_mover(estate18: Estate) -> None:
    process = MoverProcess(estate18, "move", str(estate18.tenant), failpoints="K9=stop")
    try:
        await process.stopped()
        (record,) = await estate18.mover().list()
        with pytest.raises(MoveBusy, match="another mover is running it"):
            await estate18.mover().resume(record.id)
        process.go_on()
        assert (await process.ended())[0] == 0
    finally:
        process.end()


async def test_a_zombie_can_not_flip_what_was_aborted(estate18: Estate) -> None:
    """Its lease was lost with its session, somebody aborts, and only then it goes on to the commit."""
    async with load(estate18) as running:
        process = MoverProcess(estate18, "move", str(estate18.tenant), failpoints="K13f=stop", attempts=1)
        try:
            await process.stopped()
            (record,) = await estate18.mover().list()
            end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE $1"
            await estate18.fetch("control", end, f"tenantry move lease {record.id}")
            aborted = await estate18.mover().abort(record.id)
            assert aborted.state is State.ABORTED
            process.go_on()
            code, output = await process.ended()
            assert code == 1, output
        finally:
            process.end()
        await running.reach(estate18.tenant, 20)
    await check(estate18, running)
    assert (await estate18.homes())["shared"] == ("shared", 1)
    again = await estate18.mover().run(await estate18.mover().plan(estate18.tenant, "acme"))
    assert again.state is State.FLIPPED


@pytest.mark.faults
async def test_the_links_of_reference_tables_go_with_the_tenant(estate18: Estate) -> None:
    mover = estate18.mover()
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
    await mover.release(record.id)
    await estate18.fetch("shared", "INSERT INTO currency VALUES ('CHF', 'Franc')")
    async with asyncio.timeout(20):
        while not await estate18.fetch("acme", "SELECT 1 FROM currency WHERE code = 'CHF'"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await mover.leftovers() == []
    back = await mover.run(await mover.plan(estate18.tenant, "shared"))
    await mover.release(back.id)
    assert not await estate18.fetch("shared", "SELECT 1 FROM pg_publication WHERE pubname LIKE 'tenantry%'")
