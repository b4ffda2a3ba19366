"""G20: twenty other tenants notice nothing of a move."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import State
from tests.support.estate import Estate
from tests.support.load import Load, check, load
from tests.support.process import MoverProcess


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


async def moved(estate: Estate, command: str, argument: str) -> tuple[float, float]:
    """Run a mover in a process of its own. Returns when it began and ended."""
    began = time.monotonic()
    process = MoverProcess(estate, command, argument)
    try:
        code, output = await process.ended()
    finally:
        process.end()
    assert code == 0, output
    return began, time.monotonic()


@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_other_tenants_notice_nothing_of_a_move(servers: tuple[EmbeddedServer, EmbeddedServer]) -> None:
    """By turns: a while without a move, and one with it; the middle one of three rounds counts."""
    estate = await Estate.make(*servers, tenants=21, rows=100)
    rounds: list[tuple[float, float]] = []
    async with load(estate, styles=("read committed",)) as running:
        for _ in range(3):
            quiet = time.monotonic()
            for _ in range(5):  # not 150 at once: waiting is bounded, and a busy machine slow
                await running.reach(estate.tenant, 30)
            began, ended = await moved(estate, "move", str(estate.tenant))
            (record, *_) = await estate.mover().list()
            assert record.state is State.FLIPPED
            await running.reach(estate.tenant, 20)
            rounds.append((p99(running, estate, quiet, began), p99(running, estate, began, ended)))
            await moved(estate, "rollback", record.id)
    await check(estate, running)
    print("p99 of the other tenants, without and with a move:", rounds)
    assert sorted(during / before for before, during in rounds)[1] <= 2
