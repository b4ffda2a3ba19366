"""The isolation-level grid: clients of every way of working against flips and rollbacks that stop at each point.

Through the Router, in one load: scopes of each isolation level, read-only ones, autocommit one-shots, cursors,
`run`. What is promised, and checked by the load: no request fails on account of the flip, at any level. (Clients
that really get in each other's way at REPEATABLE READ or SERIALIZABLE are told so by PostgreSQL with 40001; `run`
tries again, a bare scope does not. So the bare one here does nothing that another client could be in the way of.)
No write is lost or there twice, and every read shows all that was acknowledged before it began: none is answered
from the old home after the flip.
"""

from __future__ import annotations

import pytest

from tenantry.move import State
from tests.support.clients import STYLES
from tests.support.estate import Estate
from tests.support.load import OK, Load, check, load
from tests.support.process import MoverProcess

POINTS = [
    "fence.locked",
    "fence.marker_written",
    "fence.marker_seen",
    "fence.marker_flushed",
    "fence.sequences_set",
    "fence.reverse_opened",
    "fence.placement_updated",
    "fence.commit_sent",
    "directory.updated",
]


async def everybody(running: Load, estate: Estate, more: int = 5) -> None:
    """Clients of every style get on with the moving tenant."""
    for style in STYLES:
        await running.reach(estate.tenant, more, style=style)


async def stopped_at(running: Load, estate: Estate, point: str, command: str, argument: str) -> None:
    """A mover stands still at the point until clients of every style have got on without it; then it goes on."""
    process = MoverProcess(estate, command, argument, failpoints=f"{point}=stop")
    try:
        await process.stopped()
        await everybody(running, estate)
        homes = await estate.homes()
        epochs = [said[1] for name, said in homes.items() if said and name != "control"]
        assert len(set(epochs)) == 1, f"the two sides do not agree on the tenant's epoch: {homes}"
        process.go_on()
        code, output = await process.ended()
    finally:
        process.end()
    assert code == 0, output
    await everybody(running, estate)


async def grid_cell(estate: Estate, point: str) -> None:
    mover = estate.mover()
    async with load(estate, tenants=[estate.tenant], styles=tuple(STYLES)) as running:
        await everybody(running, estate)
        await stopped_at(running, estate, point, "move", str(estate.tenant))
        (record,) = await mover.list()
        assert record.state is State.FLIPPED
        await stopped_at(running, estate, point, "rollback", record.id)
        assert (await mover.show(record.id)).state is State.ROLLED_BACK
    print(await check(estate, running))
    for style in STYLES:
        mine = running.operations(estate.tenant, style)
        print(f"{style}: {len(mine)} operations, longest {max(o.ended - o.started for o in mine) * 1000:.0f} ms")
        assert all(operation.outcome == OK for operation in mine)


@pytest.mark.parametrize("point", ["fence.commit_sent"])
async def test_no_way_of_working_notices_a_flip(estate18: Estate, point: str) -> None:
    await grid_cell(estate18, point)


@pytest.mark.faults
@pytest.mark.parametrize("point", POINTS)
async def test_no_way_of_working_notices_a_flip_at_any_point(estate: Estate, point: str) -> None:
    await grid_cell(estate, point)
