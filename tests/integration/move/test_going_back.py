"""G14, G18, G19: nothing takes the only good copy away, and a broken way back leaves a way out."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.cli import main
from tenantry.move import DataDiffers, Mover, MoveRecord, MoveStopped, Progress, State, StepStarted, WrongState
from tests.integration.move.operators import operator_file
from tests.support.databases import drop_slots
from tests.support.estate import LIMITS, Estate
from tests.support.load import check, load

#: A nightly job of a superuser, over everybody's rows.
RETENTION = "DELETE FROM entry WHERE id % 2 = 0"
#: What of an entry is not generated.
COLUMNS = "tenant_id, id, op, account, amount, currency, note, at"
#: As if the disk had done it: the way back carries no change that has an origin of its own.
UNSEEN = (
    "SET session_replication_role = replica; SELECT pg_replication_origin_create('disk'), "
    "pg_replication_origin_session_setup('disk'); UPDATE \"Blob\" SET body = NULL WHERE \"Key\" = 'k3'"
)


async def entries(estate: Estate, database: str) -> int:
    return len(await estate.fetch(database, "SELECT FROM entry WHERE tenant_id = $1", estate.tenant))


async def moved(estate: Estate, mover: Mover) -> MoveRecord:
    record = await mover.run(await mover.plan(estate.tenant, "acme"))
    assert record.state is State.FLIPPED
    return record


def lose_slot(estate: Estate, move: str) -> None:
    """As max_slot_wal_keep_size or a failover does."""
    drop_slots(estate.far, f"slot_name = 'tenantry_{move}_reverse'")


async def test_rows_deleted_at_the_old_home_keep_the_tenant_at_the_new_one(estate18: Estate) -> None:
    mover = estate18.mover()
    steps: list[str] = []
    record = await moved(estate18, mover)
    full = await entries(estate18, "acme")
    estate18.near.psql(RETENTION, estate18.shared)
    with pytest.raises(DataDiffers, match=r"is missing in shared.*It stays in acme.*moves release") as told:
        await mover.rollback(record.id, lambda event: _note(steps, event))
    assert "moves abort" not in str(told.value)
    stopped = await mover.show(record.id)
    assert (stopped.state, "is missing in shared" in (stopped.error or "")) == (State.FLIPPED, True)
    assert steps == ["verify_back"]
    assert await entries(estate18, "acme") == full
    assert (await estate18.homes())["control"] == ("acme", 2)
    # What the message offers: the old home is given up, and a new move takes everything back.
    assert (await mover.release(record.id)).state is State.RELEASED
    back = await mover.run(await mover.plan(estate18.tenant, "shared"))
    assert back.state is State.FLIPPED
    assert await entries(estate18, "shared") == full


async def test_rows_put_right_at_the_old_home_let_the_tenant_go_back(estate18: Estate) -> None:
    mover = estate18.mover()
    record = await moved(estate18, mover)
    before = await estate18.checksums("acme")
    mine = f"FROM entry WHERE tenant_id = '{estate18.tenant}' AND id % 2 = 0"
    estate18.near.psql(f"CREATE TABLE kept AS SELECT {COLUMNS} {mine}; DELETE {mine}", estate18.shared)
    async with load(estate18) as running:
        with pytest.raises(DataDiffers):
            await mover.rollback(record.id)
        await running.reach(estate18.tenant, 10)
        estate18.near.psql(
            f"SET session_replication_role = replica; INSERT INTO entry ({COLUMNS}) SELECT * FROM kept; "
            "DROP TABLE kept",
            estate18.shared,
        )
        record = await mover.rollback(record.id)
        await running.reach(estate18.tenant, 10)
    assert record.state is State.ROLLED_BACK
    assert record.result.found()["verified_back_rows"] >= sum(rows for rows, _ in before.values())
    assert record.result.kept_rows is False
    assert {"verify_back", "rolling_back"} <= record.result.seconds.keys()
    assert await estate18.checksums("acme") == {}
    assert await mover.leftovers() == []
    with pytest.raises(WrongState):
        await mover.abort(record.id)  # it has kept nothing
    await check(estate18, running)


async def test_an_audit_that_finds_differences_keeps_the_rows_of_the_new_home(estate18: Estate) -> None:
    mover = estate18.mover()
    plan = await mover.plan(estate18.tenant, "acme")
    full = await entries(estate18, "shared")

    def job(event: Progress) -> None:
        if isinstance(event, StepStarted) and event.step == "audit":
            estate18.near.psql(RETENTION, estate18.shared)

    with pytest.raises(DataDiffers, match=r"back in shared, and its rows in acme were kept.*moves abort"):
        await mover.run(plan, job)
    for command in (mover.resume, mover.rollback):  # asking twice deletes nothing
        record = await command(plan.id)
        assert record.state is State.ROLLED_BACK
    assert record.result.kept_rows is True
    assert await entries(estate18, "shared") < full
    assert await entries(estate18, "acme") == full
    assert [(left.database, left.kind, left.state) for left in await mover.leftovers()] == [
        ("acme", "rows", State.ROLLED_BACK)
    ]
    assert "target-not-empty" in [found.code for found in (await mover.plan(estate18.tenant, "acme")).refusals]
    for _ in range(2):
        record = await mover.abort(plan.id)
        assert (record.state, record.result.kept_rows) == (State.ROLLED_BACK, False)
    assert await estate18.checksums("acme") == {}
    assert await mover.leftovers() == []
    assert (await mover.run(await mover.plan(estate18.tenant, "acme"))).state is State.FLIPPED


async def test_a_new_home_that_was_corrupted_later_is_told_too(estate18: Estate) -> None:
    mover = estate18.mover()
    record = await moved(estate18, mover)
    estate18.far.psql(UNSEEN, estate18.dedicated)
    try:
        with pytest.raises(DataDiffers, match=r"row \(k3\) differs"):
            await mover.rollback(record.id)
    finally:
        estate18.far.psql("SELECT pg_replication_origin_drop('disk')")
    estate18.far.psql('UPDATE "Blob" SET body = body WHERE "Key" = \'k3\'', estate18.dedicated)  # it travels now
    assert (await mover.rollback(record.id)).state is State.ROLLED_BACK


async def test_a_rollback_whose_mover_died_before_its_flip_compares_again(estate18: Estate) -> None:
    mover = estate18.mover()
    record = await moved(estate18, mover)
    await mover._journal.enter(record.plan, State.ROLLING_BACK)
    estate18.near.psql(RETENTION, estate18.shared)
    with pytest.raises(DataDiffers):
        await mover.resume(record.id)
    assert (await mover.show(record.id)).state is State.FLIPPED
    assert (await estate18.homes())["control"] == ("acme", 2)


@pytest.mark.parametrize("how", ["slot", "unique"])
async def test_a_broken_way_back_leaves_a_flipped_move_that_can_be_released(estate18: Estate, how: str) -> None:
    if how == "unique":
        estate18.near.psql("ALTER TABLE account ADD email text UNIQUE", estate18.shared)
    mover = estate18.mover()
    record = await moved(estate18, mover)
    if how == "slot":
        lose_slot(estate18, record.id)
    else:  # two tenants take the same address, each in its own database
        taken = "UPDATE account SET email = 'x@y' WHERE tenant_id = $1 AND id = 1"
        await estate18.fetch("shared", taken, estate18.tenants[1])
        await estate18.fetch("acme", taken, estate18.tenant)
    hasty = estate18.mover(limits=replace(LIMITS, patience=0.5, catch_up=0.5))
    with pytest.raises(MoveStopped, match=r"It stays in acme.*moves release"):
        await hasty.rollback(record.id)
    await mover._journal.enter(record.plan, State.ROLLING_BACK)  # as a mover that died after it had begun
    with pytest.raises(MoveStopped, match=r"It stays in acme.*moves release"):
        await hasty.resume(record.id)
    assert (await mover.show(record.id)).state is State.FLIPPED
    assert (await mover.release(record.id)).state is State.RELEASED
    if how == "unique":
        await estate18.fetch("acme", "UPDATE account SET email = 'z@y' WHERE id = 1")
    assert (await mover.run(await mover.plan(estate18.tenant, "shared"))).state is State.FLIPPED


async def test_a_way_back_that_is_lost_before_the_audit_does_not_stop_the_release(estate18: Estate) -> None:
    mover = estate18.mover()
    plan = await mover.plan(estate18.tenant, "acme")
    dead: list[bool] = []

    def die(event: Progress) -> None:
        if isinstance(event, StepStarted) and event.step == "audit" and not dead:
            dead.append(True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await mover.run(plan, die)
    lose_slot(estate18, plan.id)
    for command in (mover.resume, mover.rollback, mover.abort):
        with pytest.raises(MoveStopped, match=r"slot on acme is lost.*moves release .* without the audit"):
            await command(plan.id)
    record = await mover.release(plan.id)
    assert record.state is State.RELEASED
    assert "slot on acme is lost" in record.result.found()["unaudited"]
    assert record.result.audited_rows is None
    assert await mover.leftovers() == []


async def test_a_release_that_finds_the_tenant_taken_back_finishes_the_rollback(estate18: Estate) -> None:
    """A mover that was cut off flips back after its move was thought to be flipped still."""
    mover = estate18.mover()
    record = await moved(estate18, mover)
    assert (await mover.rollback(record.id)).state is State.ROLLED_BACK
    await estate18.fetch("control", "UPDATE tenantry.move SET state = 'flipped', ended_at = NULL")
    mine = await estate18.checksums("shared")
    record = await mover.release(record.id)
    assert record.state is State.ROLLED_BACK
    assert await estate18.checksums("shared") == mine


def _note(steps: list[str], event: Progress) -> None:
    if isinstance(event, StepStarted):
        steps.append(event.step)


async def test_the_commands_of_moves_say_which_rows_were_kept_and_how_to_delete_them(
    estate18: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENANTRY_CONFIG", str(operator_file(estate18, tmp_path)))

    async def run(*arguments: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, list(arguments))
        seen = capsys.readouterr()
        return code, seen.out + seen.err

    mover = estate18.mover()
    first = await moved(estate18, mover)
    await estate18.fetch(
        "shared", "DELETE FROM entry WHERE id = (SELECT min(id) FROM entry WHERE tenant_id = $1)", estate18.tenant
    )
    code, text = await run("moves", "rollback", first.id, "--yes")
    assert code == 1
    for said in ("state           flipped", "is missing in shared", "It stays in acme"):
        assert said in text, text
    # The audit that was never made finds the same, and takes the tenant back.
    await estate18.fetch("control", "UPDATE tenantry.move SET step = 'settle'")
    code, text = await run("moves", "resume", first.id)
    assert code == 1
    for said in ("state           rolled back", "the audit after the flip found differences", "were kept"):
        assert said in text, text
    assert f"`tenantry moves abort {first.id}` deletes the rows that were kept" in text
    code, text = await run("moves", "leftovers")
    assert (code, "rows" in text) == (1, True)
    assert (await run("moves", "abort", first.id, "--yes"))[0] == 0
    code, text = await run("moves", "show", first.id)
    assert "moves abort" not in text
    assert (await run("moves", "leftovers"))[0] == 0
