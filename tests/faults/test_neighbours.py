"""G20: twenty other tenants notice nothing of a move."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import State
from tests.faults.estate import Estate
from tests.faults.load import Load, check, load


def p99(running: Load, estate: Estate, start: float, end: float) -> float:
    """Seconds of the other tenants' operations between two moments."""
    taken = [
        o.ended - o.started
        for o in running.operations()
        if o.tenant != estate.tenant and o.ended and start <= o.started and o.ended <= end
    ]
    assert len(taken) > 500
    return statistics.quantiles(taken, n=100)[98]


@pytest.fixture
def servers() -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    with EmbeddedServer.start(18) as near, EmbeddedServer.start(18) as far:
        yield near, far


@pytest.mark.faults
async def test_other_tenants_notice_nothing_of_a_move(servers: tuple[EmbeddedServer, EmbeddedServer]) -> None:
    estate = await Estate.make(*servers, tenants=21, rows=100)
    mover = estate.mover()
    async with load(estate, isolations=("read committed",)) as running:
        await running.reach(estate.tenant, 100)
        started = time.monotonic()
        await running.reach(estate.tenant, 200)
        began = time.monotonic()
        record = await mover.run(await mover.plan(estate.tenant, "acme"))
        ended = time.monotonic()
        assert record.state is State.FLIPPED
        await running.reach(estate.tenant, 20)
    await check(estate, running)
    before, during = p99(running, estate, started, began), p99(running, estate, began, ended)
    print(f"p99 of the other tenants: before {before:.4f} s, during the move {during:.4f} s")
    assert during <= 2 * before
