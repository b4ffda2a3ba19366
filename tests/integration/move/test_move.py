"""A move from end to end, between two servers."""

from __future__ import annotations

from tenantry.move import State
from tests.support.estate import Estate
from tests.support.load import check, load


async def test_promoted_tenant_lives_at_its_new_home_with_all_its_rows(estate18: Estate) -> None:
    before = await estate18.checksums("shared")
    mover = estate18.mover()
    plan = await mover.plan(estate18.tenant, "acme")
    assert plan.refusals == ()
    record = await mover.run(plan, print)
    assert record.state is State.FLIPPED
    assert await estate18.homes() == {"shared": ("acme", 2), "acme": ("acme", 2), "control": ("acme", 2)}
    after = await estate18.checksums("acme")
    assert after == {key: value for key, value in before.items() if key[1] == estate18.tenant}


async def test_released_move_leaves_nothing_and_touches_no_other_tenant(estate18: Estate) -> None:
    before = await estate18.checksums("shared")
    mover = estate18.mover()
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
    record = await mover.release(record.id)
    assert record.state is State.RELEASED
    after = await estate18.checksums("shared")
    assert after == {key: value for key, value in before.items() if key[1] != estate18.tenant}
    assert await mover.release(record.id) == record


async def test_rollback_takes_back_writes_made_since_the_flip(estate18: Estate) -> None:
    mover = estate18.mover()
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
    await estate18.fetch("acme", "UPDATE account SET balance = balance + 7")
    await estate18.fetch("acme", "INSERT INTO entry (tenant_id, op, account, amount, currency) "
                       "VALUES ($1, gen_random_uuid(), 1, 7, 'USD')", estate18.tenant)  # fmt: skip
    moved = await estate18.checksums("acme")
    record = await mover.rollback(record.id)
    assert record.state is State.ROLLED_BACK
    assert await estate18.homes() == {"shared": ("shared", 3), "acme": ("shared", 3), "control": ("shared", 3)}
    after = await estate18.checksums("shared")
    assert {k: v for k, v in after.items() if k[1] == estate18.tenant} == moved
    assert await estate18.checksums("acme") == {}


async def test_no_request_fails_and_no_write_is_lost_while_the_tenant_moves_and_comes_back(estate: Estate) -> None:
    mover = estate.mover()
    async with load(estate) as running:
        record = await mover.run(await mover.plan(estate.tenant, "acme"), print)
        await running.reach(estate.tenant, 30)
        record = await mover.rollback(record.id)
        await running.reach(estate.tenant, 30)
        again = await mover.run(await mover.plan(estate.tenant, "acme"))
        await running.reach(estate.tenant, 30)
        await mover.release(again.id)
        placement = await running.router.placement(estate.tenant)
    print(await check(estate, running), record.result, again.result)
    assert (placement.database, placement.epoch) == ("acme", 4)
