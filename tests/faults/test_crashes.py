"""F7 to F9: a server crashes, with its log unwritten as long as it may be; the slot is lost."""

from __future__ import annotations

import asyncio

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import MoveStopped, State
from tests.support.estate import Estate
from tests.support.load import check, load
from tests.support.process import MoverProcess

LAZY = {"wal_writer_delay": "10s", "wal_retrieve_retry_interval": "200ms"}
POINTS = [
    "copy.half",
    "subscription.enabled",
    "reverse.prepared",
    "fence.marker_written",
    "fence.marker_seen",
    "fence.marker_flushed",
    "fence.sequences_set",
    "fence.reverse_opened",
    "fence.placement_updated",
    "fence.commit_sent",
    "directory.updated",
]


async def crash_cell(version: int, point: str, side: str) -> None:
    with EmbeddedServer.start(version, settings=LAZY) as near, EmbeddedServer.start(version, settings=LAZY) as far:
        estate = await Estate.make(near, far)
        victim = near if side == "source" else far
        async with load(estate) as running:
            process = MoverProcess(estate, "move", str(estate.tenant), failpoints=f"{point}=stop")
            try:
                await process.stopped()
                await asyncio.to_thread(victim.crash)
                await asyncio.to_thread(victim.restart)
                await running.reach(estate.tenant, 20)
                process.go_on()
                code, output = await process.ended()
            finally:
                process.end()
            (record,) = await estate.mover().list()
            if code:
                # The mover may give up when its own database, the journal's, was away; the next one goes on.
                print(output[-500:])
                record = await estate.mover().resume(record.id)
            assert record.state is State.FLIPPED, output
            await running.reach(estate.tenant, 20)
        print(await check(estate, running, unknown=True))
        assert (await estate.mover().release(record.id)).state is State.RELEASED


@pytest.mark.parametrize("point", ["fence.commit_sent"])
async def test_a_crash_of_the_target_loses_nothing(point: str) -> None:
    await crash_cell(18, point, "target")


@pytest.mark.faults
@pytest.mark.parametrize("version", [16, 18])
@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_of_the_target_loses_nothing_anywhere(version: int, point: str) -> None:
    """F7."""
    await crash_cell(version, point, "target")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("version", "point"),
    [
        *((version, point) for version in (16, 18) for point in ("slot.created", "subscription.created", *POINTS)),
        *((18, point) for point in ("indexes.built", "verify.started", "fence.locked")),
    ],
)
async def test_a_crash_of_the_source_loses_nothing(version: int, point: str) -> None:
    """F8."""
    await crash_cell(version, point, "source")


@pytest.mark.faults
@pytest.mark.parametrize("side", ["source", "target"])
async def test_a_rollback_after_a_crash_brings_everything_back(side: str) -> None:
    """F23: the old home crashes while the way back follows, or the new one with its log unwritten."""
    with EmbeddedServer.start(18, settings=LAZY) as near, EmbeddedServer.start(18, settings=LAZY) as far:
        estate = await Estate.make(near, far)
        mover = estate.mover()
        async with load(estate) as running:
            record = await mover.run(await mover.plan(estate.tenant, "acme"))
            await running.reach(estate.tenant, 20)
            victim = near if side == "source" else far
            await asyncio.to_thread(victim.crash)
            await asyncio.to_thread(victim.restart)
            assert (await mover.rollback(record.id)).state is State.ROLLED_BACK
            await running.reach(estate.tenant, 20)
        print(await check(estate, running, unknown=True))
        assert await estate.homes() == {"shared": ("shared", 3), "acme": ("shared", 3), "control": ("shared", 3)}


@pytest.mark.faults
async def test_a_lost_slot_stops_the_move_and_says_so() -> None:
    """F9."""
    small = {"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}
    with EmbeddedServer.start(18, settings=small) as near, EmbeddedServer.start(18) as far:
        estate = await Estate.make(near, far)
        process = MoverProcess(estate, "move", str(estate.tenant), failpoints="indexes.built=stop")
        try:
            await process.stopped()
            near.psql("CREATE TABLE noise (t text)", estate.shared)
            for _ in range(6):
                near.psql(
                    "INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 20000); "
                    "SELECT pg_switch_wal(); CHECKPOINT",
                    estate.shared,
                )
            assert near.psql("SELECT wal_status FROM pg_replication_slots LIMIT 1") == "lost"
            process.go_on()
            code, output = await process.ended()
        finally:
            process.end()
        assert code == 1
        assert "slot on shared is lost" in output
        (record,) = await estate.mover().list()
        with pytest.raises(MoveStopped, match="lost"):
            await estate.mover().resume(record.id)
        assert (await estate.mover().abort(record.id)).state is State.ABORTED
        again = await estate.mover().run(await estate.mover().plan(estate.tenant, "acme"))
        assert again.state is State.FLIPPED
