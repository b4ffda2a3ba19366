"""F1: the mover is killed at every point; then somebody resumes, aborts, or does nothing."""

from __future__ import annotations

import asyncio
import random

import pytest

from tenantry.move import State
from tenantry.move.failpoints import POINTS
from tests.support.estate import Estate
from tests.support.load import Load, check, load
from tests.support.process import MoverProcess

#: From here on the tenant lives at the target.
FLIPPED = frozenset({"fence.commit_sent", "directory.updated", "audit.started", "release.deleting"})
QUICK = [("copy.half", "abort"), ("fence.placement_updated", "nothing"), ("fence.commit_sent", "resume")]
MATRIX = [(point, then) for point in POINTS for then in ("resume", "abort", "nothing")]


async def kill_at(estate: Estate, point: str) -> None:
    if point == "release.deleting":
        mover = estate.mover()
        record = await mover.run(await mover.plan(estate.tenant, "acme"))
        process = MoverProcess(estate, "release", record.id, failpoints="release.deleting=kill", delete_batch=50)
    else:
        process = MoverProcess(estate, "move", str(estate.tenant), failpoints=f"{point}=kill")
    try:
        await process.killed()
    finally:
        process.end()


async def objects_left(estate: Estate) -> list[str]:
    """Slots, publications and subscriptions of moves, on both sides."""
    found = []
    for database in ("shared", "acme"):
        rows = await estate.fetch(
            database,
            "SELECT 'slot ' || slot_name AS what FROM pg_replication_slots WHERE database = current_database() "
            "UNION ALL SELECT 'publication ' || pubname FROM pg_publication "
            "UNION ALL SELECT 'subscription ' || subname FROM pg_subscription AS s JOIN pg_database AS d "
            "ON d.oid = s.subdbid WHERE d.datname = current_database()",
        )
        found += [f"{database}: {row['what']}" for row in rows if "_ref" not in row["what"]]
    return found


async def killed_cell(estate: Estate, point: str, then: str) -> None:
    mover = estate.mover()
    async with load(estate) as running:
        await kill_at(estate, point)
        await running.reach(estate.tenant, 20)  # with no human
        records = await mover.list()
        assert len(records) == (0 if point == "run.started" else 1)
        if then == "resume":
            await resumed(estate, running, point)
        elif then == "abort" and records:
            # After the flip an abort has nothing to abort and goes forward, except that a release in
            # progress goes on being one.
            if point == "release.deleting":
                record = await mover.resume(records[0].id)
                assert record.state is State.RELEASED
            else:
                record = await mover.abort(records[0].id)
                assert record.state is (State.FLIPPED if point in FLIPPED else State.ABORTED)
                assert (await mover.abort(records[0].id)).state is record.state
            if record.state is State.ABORTED:
                assert await objects_left(estate) == []
                assert (
                    await estate.checksums("acme") == {}
                    if point not in ("run.started", "target.started")
                    else True
                )
        elif then == "nothing":
            assert await mover.leftovers() or point in (
                "run.started",
                "target.started",
                "placement.closed",
                "identities.set",
            )
        await running.reach(estate.tenant, 20)
    await check(estate, running)


async def resumed(estate: Estate, running: Load, point: str) -> None:
    mover = estate.mover()
    records = await mover.list()
    if not records:
        await mover.run(await mover.plan(estate.tenant, "acme"))
        return
    move = records[0].id
    record = await mover.resume(move)
    assert (await mover.resume(move)).state is record.state
    await running.reach(estate.tenant, 20)
    if point == "release.deleting":
        assert record.state is State.RELEASED
    else:
        assert record.state is State.FLIPPED
        await mover.release(move)
    assert await objects_left(estate) == []
    left = await estate.checksums("shared")
    assert not [key for key in left if key[1] == estate.tenant]


@pytest.mark.parametrize(("point", "then"), QUICK, ids=lambda value: value)
async def test_killed_mover_leaves_a_working_tenant(estate18: Estate, point: str, then: str) -> None:
    await killed_cell(estate18, point, then)


@pytest.mark.parametrize("then", ["resume", "abort"])
async def test_killed_mover_that_had_journalled_the_flip_but_not_its_step_leaves_a_working_tenant(
    estate18: Estate, then: str
) -> None:
    """Between two writes to the journal there is no point to stop at: the second is taken back."""
    mover = estate18.mover()
    async with load(estate18) as running:
        await kill_at(estate18, "directory.updated")
        (record,) = await mover.list()
        await estate18.fetch("control", "UPDATE tenantry.move SET step = 'verify', state = 'flipped'")
        await running.reach(estate18.tenant, 20)
        record = await (mover.resume if then == "resume" else mover.abort)(record.id)
        assert record.state is State.FLIPPED
        assert record.step == "audit"
        await running.reach(estate18.tenant, 20)
    await check(estate18, running)


@pytest.mark.faults
@pytest.mark.parametrize(("point", "then"), MATRIX, ids=lambda value: value)
async def test_killed_mover_leaves_a_working_tenant_everywhere(estate: Estate, point: str, then: str) -> None:
    await killed_cell(estate, point, then)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(8))
async def test_killed_mover_leaves_a_working_tenant_at_any_time(estate18: Estate, seed: int) -> None:
    """F1 at random times: between two points too."""
    dice = random.Random(seed)
    async with load(estate18) as running:
        process = MoverProcess(estate18, "move", str(estate18.tenant))
        try:
            await asyncio.sleep(dice.uniform(0.5, 6.0))
        finally:
            process.end()
        await running.reach(estate18.tenant, 20)
        for record in await estate18.mover().list():
            if dice.random() < 0.5:
                assert (await estate18.mover().resume(record.id)).state is State.FLIPPED
            else:
                assert (await estate18.mover().abort(record.id)).state in (State.ABORTED, State.FLIPPED)
        await running.reach(estate18.tenant, 20)
    await check(estate18, running)
