"""F22: hundreds of requests of the moving tenant wait at the fence, and cost the other tenants nothing."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tenantry import Router
from tenantry.embedded import EmbeddedServer
from tenantry.move import State
from tests.support.clients import ENTRY
from tests.support.estate import Estate
from tests.support.process import MoverProcess
from tests.support.quiet import nothing_leaked
from tests.support.until import until

CONNECTIONS, WAITING, OTHERS = 5, 500, 6
#: The fence stands until the mover is let go; its cap lies far beyond that.
LONG = 60.0


@pytest.fixture
async def many(pg18: EmbeddedServer, far18: EmbeddedServer) -> AsyncIterator[Estate]:
    """An estate with some other tenants."""
    made = await Estate.make(pg18, far18, tenants=1 + OTHERS)
    yield made
    made.drop()


async def one_by_one(router: Router, tenants: list[uuid.UUID], count: int) -> list[float]:
    """Scopes of the tenants by turns; the seconds that each took."""
    taken = []
    for number in range(count):
        started = time.monotonic()
        assert await router.fetchval(tenants[number % len(tenants)], "SELECT count(*) FROM account") == 10
        taken.append(time.monotonic() - started)
    return taken


def p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[98] * 1000


@pytest.mark.parametrize(
    "point",
    [
        "fence.locked",
        *(pytest.param(p, marks=pytest.mark.faults) for p in ("fence.marker_flushed", "fence.placement_updated")),
    ],
)
async def test_waiting_requests_hold_no_connection(many: Estate, point: str) -> None:
    """While the fence stands, five scopes of others fit into the pool of five at once, whatever waits."""
    moving, others = many.tenant, many.tenants[1:]
    operations = [uuid.uuid4() for _ in range(WAITING)]
    async with Router.open(many.config(connections=CONNECTIONS), metrics=False) as router:
        before = await one_by_one(router, others, 300)
        process = MoverProcess(many, "move", str(moving), failpoints=f"{point}=stop", pause=LONG)
        try:
            await process.stopped()
            waiting = [asyncio.create_task(router.execute(moving, ENTRY, one, 1, 0)) for one in operations]
            await until(lambda: len(router.fence_wait) == 1)
            during = await one_by_one(router, others, 300)
            async with asyncio.timeout(20), AsyncExitStack() as open_at_once:
                for other in others[:CONNECTIONS]:
                    connection = await open_at_once.enter_async_context(router.tenant(other))
                    assert await connection.fetchval("SELECT 1") == 1
            assert not any(task.done() for task in waiting)
            process.go_on()
            code, output = await process.ended()
        finally:
            process.end()
        assert code == 0, output
        assert await asyncio.gather(*waiting) == ["INSERT 0 1"] * WAITING
        after = await one_by_one(router, others, 300)
        assert (await router.placement(moving)).database == "acme"
        await nothing_leaked(router)
    (record,) = await many.mover().list()
    assert record.state is State.FLIPPED
    rows = await many.fetch("acme", "SELECT op FROM entry WHERE op = ANY($1::uuid[])", operations)
    assert sorted(row["op"] for row in rows) == sorted(operations)
    print(f"others' p99: {p99(before):.1f} ms before, {p99(during):.1f} during, {p99(after):.1f} after")
