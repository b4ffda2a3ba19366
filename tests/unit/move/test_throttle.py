"""The throttle keeps all copying jobs together to one rate. Time is a number that sleeping adds to."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tenantry.move.throttle import Throttle


class Time:
    """A clock that stands still but for sleepers, of whom the one with the nearest end wakes first."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept += 1
        end = self.now + seconds
        await asyncio.sleep(0)  # lets the others send meanwhile
        self.now = max(self.now, end)


@given(
    rate=st.floats(1e3, 1e9),
    jobs=st.lists(st.lists(st.integers(1, 65536), min_size=1, max_size=20), min_size=1, max_size=4),
)
def test_all_jobs_together_keep_to_the_rate(rate: float, jobs: list[list[int]]) -> None:
    time = Time()
    throttle = Throttle(rate, clock=time.clock, sleep=time.sleep)

    async def job(pieces: list[int]) -> None:
        for piece in pieces:
            await throttle.passed(piece)

    async def run() -> None:
        await asyncio.gather(*(job(pieces) for pieces in jobs))

    asyncio.run(run())
    total = sum(map(sum, jobs))
    assert time.now >= total / rate * 0.999999  # never faster
    assert time.now <= total / rate * 1.000001  # and no slower: the link is always in use


async def test_time_in_which_nothing_is_sent_is_not_made_up_for_by_a_burst() -> None:
    time = Time()
    throttle = Throttle(1_000, clock=time.clock, sleep=time.sleep)
    await throttle.passed(500)
    time.now += 60
    before = time.now
    await throttle.passed(1_000)
    assert time.now - before == 1.0


async def test_without_a_rate_nobody_waits() -> None:
    time = Time()
    throttle = Throttle(None, clock=time.clock, sleep=time.sleep)
    await throttle.passed(10**12)
    assert time.slept == 0
