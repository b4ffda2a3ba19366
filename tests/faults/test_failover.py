"""F30: a server dies in the middle of a move, and its streaming standby takes its place."""

from __future__ import annotations

import asyncio

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import State
from tenantry.move.errors import SlotLost
from tests.support.estate import Estate
from tests.support.load import check, load
from tests.support.process import MoverProcess
from tests.support.standby import standby_of, take_over

QUICK = {"wal_retrieve_retry_interval": "200ms"}
#: Which server died, and where: how the move ends. A slot goes with its server (failover slots are not used). What
#: hung on it is made anew, as the copy's, or told: before the flip the move is given up, after it its way back.
CELLS = {
    ("source", "copy.half"): (State.FLIPPED,),
    ("source", "subscription.enabled"): (State.ABORTED,),
    ("source", "fence.marker_flushed"): (State.ABORTED,),
    # Whether the standby had the commit is a race; that all agree on the answer is not.
    ("source", "fence.commit_sent"): (State.FLIPPED, State.ABORTED),
    ("source", "directory.updated"): (State.FLIPPED,),
    ("target", "copy.half"): (State.FLIPPED,),
    ("target", "subscription.enabled"): (State.FLIPPED,),
    ("target", "fence.marker_flushed"): (State.ABORTED,),
    ("target", "fence.commit_sent"): (State.RELEASED,),
    ("target", "directory.updated"): (State.RELEASED,),
}


async def failover_cell(side: str, point: str, version: int = 18) -> None:
    with (
        EmbeddedServer.start(version, settings=QUICK) as near,
        EmbeddedServer.start(version, settings=QUICK) as far,
    ):
        estate = await Estate.make(near, far)
        victim = near if side == "source" else far
        with standby_of(victim, synchronous=True) as standby:
            async with load(estate) as running:
                process = MoverProcess(estate, "move", str(estate.tenant), failpoints=f"{point}=stop")
                try:
                    await process.stopped()
                    await asyncio.to_thread(take_over, victim, standby)
                    if side == "source":
                        estate.near = standby
                    else:
                        estate.far = standby
                    await running.reach(estate.tenant, 20)
                    process.go_on()
                    code, output = await process.ended()
                finally:
                    process.end()
                state = await settle(estate, code, output)
                await running.reach(estate.tenant, 20)
            print(await check(estate, running, unknown=True))
            assert state in CELLS[side, point], output
            if state is State.FLIPPED:
                (record,) = await estate.mover().list()
                assert (await estate.mover().rollback(record.id)).state is State.ROLLED_BACK


async def settle(estate: Estate, code: int, output: str) -> State:
    """Do what the mover's last word says: go on, give up, or give the way back up."""
    mover = estate.mover()
    (record,) = await mover.list()
    if not code:
        return record.state
    try:
        return (await mover.resume(record.id)).state
    except SlotLost as error:
        said = str(error)
    assert "gone with the server that had it" in said, output
    word = "release" if f"moves release {record.id}" in said else "abort"
    assert f"tenantry moves {word} {record.id}" in said
    ended = await (mover.release(record.id) if word == "release" else mover.abort(record.id))
    return ended.state


@pytest.mark.timeout(240)
async def test_a_failover_of_the_source_while_the_target_follows_loses_nothing_that_its_standby_had() -> None:
    await failover_cell("source", "subscription.enabled")


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
async def test_a_failover_loses_nothing_that_its_standby_had_anywhere(cell: tuple[str, str]) -> None:
    """F30."""
    await failover_cell(*cell)
