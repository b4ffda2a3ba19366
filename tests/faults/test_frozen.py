"""F2: the mover is frozen inside the fence; the server's dead man's switch lets the tenant go on."""

from __future__ import annotations

import pytest

from tenantry.move import State
from tests.support.estate import Estate
from tests.support.load import check, load
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
]


async def frozen_cell(estate: Estate, point: str) -> None:
    async with load(estate) as running:
        process = MoverProcess(estate, "move", str(estate.tenant), failpoints=f"{point}=stop")
        try:
            await process.stopped()
            await running.reach(estate.tenant, 30)  # while the mover is frozen
            process.go_on()
            code, output = await process.ended()
        finally:
            process.end()
        assert code == 0, output
        (record,) = await estate.mover().list()
        assert record.state is State.FLIPPED
        await running.reach(estate.tenant, 20)
    # That the tenant went on while the mover stood still is what counts; how long a client waited depends on
    # the machine, and stands in the benchmark.
    print(await check(estate, running), f"longest {running.longest(estate.tenant):.3f} s")


@pytest.mark.parametrize("point", ["fence.placement_updated"])
async def test_frozen_mover_does_not_hold_the_tenant(estate18: Estate, point: str) -> None:
    await frozen_cell(estate18, point)


@pytest.mark.faults
@pytest.mark.parametrize("point", POINTS)
async def test_frozen_mover_does_not_hold_the_tenant_anywhere(estate: Estate, point: str) -> None:
    await frozen_cell(estate, point)
