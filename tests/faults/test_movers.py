"""F18 to F20: two movers at once, somebody else at the target, and what an earlier move has left."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tenantry.embedded import EmbeddedError, EmbeddedServer
from tenantry.move import DataDiffers, MoveBusy, MoveRecord, MoveRefused, Progress, State, StepStarted
from tests.faults.estate import LIMITS, Estate
from tests.faults.load import check, load
from tests.faults.process import MoverProcess
from tests.support.databases import drop_database, new_database


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


@pytest.mark.faults
async def test_of_a_promotion_and_a_demotion_at_once_one_wins(estate18: Estate) -> None:
    """F18: the tenant lives at acme; one mover demotes it, the other wants it in a third database."""
    mover = estate18.mover()
    first = await mover.run(await mover.plan(estate18.tenant, "acme"))
    with pytest.raises(MoveRefused, match="holds rows already"):  # not released: its way back is still open
        await mover.run(await mover.plan(estate18.tenant, "shared"))
    await mover.release(first.id)
    estate18.third = third = new_database(estate18.far, "third")
    try:
        await estate18.fetch(
            "control", "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('third', 'dedicated', 'config')"
        )
        mover = estate18.mover()
        async with load(estate18) as running:
            plans = [await mover.plan(estate18.tenant, to) for to in ("shared", "third")]
            results = await asyncio.gather(*(mover.run(plan) for plan in plans), return_exceptions=True)
            assert sorted(type(result).__name__ for result in results) == ["MoveBusy", "MoveRecord"], results
            (won,) = [result for result in results if isinstance(result, MoveRecord)]
            assert won.state is State.FLIPPED
            await running.reach(estate18.tenant, 20)
            if won.target == "third":  # where the checker does not look
                await mover.rollback(won.id)
            await running.reach(estate18.tenant, 20)
        await check(estate18, running)
    finally:
        drop_database(estate18.far, third)


@pytest.mark.faults
@pytest.mark.parametrize("step", ["verify", "flip"])
async def test_nobody_writes_to_the_target_before_the_flip(estate18: Estate, step: str) -> None:
    """F19: the application is refused there; what the owner writes after the comparison, the audit finds."""
    tenant, refused = estate18.tenant, []

    def write() -> None:
        scope = f"BEGIN; SELECT tenantry.bind('{tenant}')"
        with pytest.raises(EmbeddedError, match="does not live in database acme") as error:
            estate18.far.psql(scope, estate18.dedicated, user="app")
        refused.append(error)
        estate18.far.psql(f"INSERT INTO account (tenant_id, id) VALUES ('{tenant}', 999)", estate18.dedicated)

    def tell(event: Progress) -> None:
        if isinstance(event, StepStarted) and event.step == step and not refused:
            write()

    mover = estate18.mover()
    plan = await mover.plan(tenant, "acme")
    with pytest.raises(DataDiffers, match="999"):
        await mover.run(plan, tell)
    assert refused
    record = await mover.show(plan.id)
    assert record.state is (State.RUNNING if step == "verify" else State.ROLLED_BACK)
    assert not await estate18.fetch("shared", "SELECT 1 FROM account WHERE id = 999")


@pytest.mark.faults
async def test_what_an_abort_could_not_reach_is_listed_and_cleaned_later(estate18: Estate) -> None:
    """F20: the target is down while the move is aborted; the journal knows what is there."""
    with EmbeddedServer.start(18) as far:
        estate = await Estate.make(estate18.near, far)
        mover = estate.mover(limits=replace(LIMITS, patience=1.0))
        process = MoverProcess(estate, "move", str(estate.tenant), failpoints="K9=kill")
        try:
            await process.killed()
        finally:
            process.end()
        far.crash()
        (record,) = await mover.list()
        assert (await mover.abort(record.id)).state is State.ABORTED
        assert not await estate.fetch(
            "shared", "SELECT 1 FROM pg_replication_slots WHERE slot_name LIKE 'tenantry%'"
        )
        assert {left.database for left in await mover.leftovers()} == {"acme"}
        far.restart()
        assert "target-not-empty" in [f.code for f in (await mover.plan(estate.tenant, "acme")).refusals]
        assert (await mover.abort(record.id)).state is State.ABORTED
        assert await mover.leftovers() == []
        assert (await mover.run(await mover.plan(estate.tenant, "acme"))).state is State.FLIPPED
        estate.drop()
