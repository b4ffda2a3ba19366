"""Permits: never more than the limit, by turns, and none is lost to a cancellation."""

from __future__ import annotations

import asyncio
import random

import pytest

from tenantry.router.budget import Budget
from tests.support.until import turns


def clock() -> float:
    return asyncio.get_running_loop().time()


def budget_of(limit: int) -> Budget:
    return Budget(limit, rate=1e9, burst=1000)


async def test_permits_are_given_in_the_order_of_asking() -> None:
    budget, order = budget_of(1), list[int]()
    await budget.acquire(object(), clock)

    async def ask(number: int) -> None:
        await budget.acquire(object(), clock)
        order.append(number)
        budget.give_back()

    tasks = [asyncio.create_task(ask(number)) for number in range(5)]
    await turns(2)
    assert budget.waiting == 5
    budget.give_back()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert budget.used == 0


async def test_a_permit_given_back_in_the_very_turn_of_a_cancellation_is_not_lost() -> None:
    budget = budget_of(1)
    await budget.acquire(object(), clock)
    waiting = asyncio.create_task(budget.acquire(object(), clock))
    await turns(2)
    waiting.cancel()
    budget.give_back()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (budget.used, budget.waiting) == (0, 0)
    async with asyncio.timeout(5):
        await budget.acquire(object(), clock)


async def test_a_cancellation_in_the_very_turn_of_a_grant_gives_the_permit_back() -> None:
    budget = budget_of(1)
    await budget.acquire(object(), clock)
    first, second = (asyncio.create_task(budget.acquire(object(), clock)) for _ in range(2))
    await turns(2)
    budget.give_back()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert (budget.used, budget.waiting) == (1, 0)


async def test_random_askers_and_cancellations_never_exceed_the_limit_nor_lose_a_permit() -> None:
    dice = random.Random(11)
    budget, held, most = budget_of(3), 0, 0

    async def asker() -> None:
        nonlocal held, most
        await budget.acquire(object(), clock)
        held += 1
        most = max(most, held)
        try:
            await turns(dice.randrange(4))
        finally:
            held -= 1
            budget.give_back()

    for _ in range(200):
        tasks = [asyncio.create_task(asker()) for _ in range(8)]
        for task in dice.sample(tasks, 4):
            await turns(dice.randrange(3))
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            assert task.cancelled() or task.exception() is None
        assert (budget.used, budget.waiting) == (0, 0)
    assert most == 3


class Pool:
    """A spender with idle connections."""

    def __init__(self, budget: Budget, since: float) -> None:
        self.budget, self.since, self.idle = budget, since, 1

    def idle_since(self) -> float | None:
        return self.since if self.idle else None

    def close_idle(self) -> bool:
        self.idle -= 1
        self.budget.give_back()
        return True


async def test_room_is_made_by_the_connection_that_was_idle_longest() -> None:
    budget = budget_of(2)
    pools = [Pool(budget, 5.0), Pool(budget, 3.0)]
    for pool in pools:
        budget.join(pool)
        await budget.acquire(pool, clock)
    await budget.acquire(object(), clock)
    assert [pool.idle for pool in pools] == [1, 0]
    assert budget.used == 2
