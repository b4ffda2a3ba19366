"""Where callers of a fenced tenant wait: one probes, the rest wait for its word."""

from __future__ import annotations

import asyncio

from tenantry.router.parking import GUEST, PROBER, Parking
from tests.support.until import turns


async def test_one_probes_and_the_others_wait_for_its_word() -> None:
    parking, loop = Parking(), asyncio.get_running_loop()
    deadline = loop.time() + 30
    prober = asyncio.create_task(parking.wait(1, None, deadline))
    await turns()
    guests = [asyncio.create_task(parking.wait(1, None, deadline)) for _ in range(3)]
    assert await prober == PROBER
    await turns(2)
    assert not any(guest.done() for guest in guests)
    parking.leave(1)
    assert await asyncio.gather(*guests) == [GUEST] * 3
    assert len(parking) == 0


async def test_a_change_that_does_not_lift_the_fence_does_not_make_the_prober_spin() -> None:
    parking, loop = Parking(), asyncio.get_running_loop()
    prober = asyncio.create_task(parking.wait(1, None, loop.time() + 30))
    await turns()
    parking.wake(1)
    assert await prober == PROBER
    began = loop.time()
    assert await parking.wait(1, PROBER, loop.time() + 30) == PROBER
    assert loop.time() > began, "it did not wait"
    parking.leave(1)


async def test_a_deadline_leaves_nothing_behind() -> None:
    parking, loop = Parking(), asyncio.get_running_loop()
    assert await parking.wait(1, None, loop.time()) is None
    assert len(parking) == 0


async def test_a_cancelled_prober_lets_the_others_go() -> None:
    parking, loop = Parking(), asyncio.get_running_loop()
    prober = asyncio.create_task(parking.wait(1, None, loop.time() + 30))
    await turns()
    guest = asyncio.create_task(parking.wait(1, None, loop.time() + 30))
    await turns()
    prober.cancel()
    assert await guest == GUEST
    assert len(parking) == 0
