"""F19 and F20: somebody else at the target, and what an earlier move has left. F18 has a file of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tenantry.embedded import EmbeddedError, EmbeddedServer
from tenantry.move import DataDiffers, Progress, State, StepStarted
from tests.support.estate import LIMITS, Estate
from tests.support.process import MoverProcess


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
        process = MoverProcess(estate, "move", str(estate.tenant), failpoints="subscription.enabled=kill")
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
