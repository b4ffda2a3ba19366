"""One timer for all that wait: each is told once, in order, and those that have gone are forgotten."""

from __future__ import annotations

import asyncio

from tenantry.router.deadlines import Deadlines
from tests.support.until import until


class Hall:
    """Waiters by name."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self.told: list[str] = []
        self.deadlines = Deadlines(waits=self.waiting.__contains__, late=self.late)

    def add(self, name: str, seconds: float) -> None:
        self.waiting.add(name)
        self.deadlines.add(asyncio.get_running_loop().time() + seconds, name)

    def late(self, name: str) -> None:
        self.waiting.remove(name)
        self.told.append(name)


async def test_waiters_are_told_in_the_order_of_their_deadlines() -> None:
    hall = Hall()
    for name, seconds in (("c", 0.03), ("a", 0.01), ("far", 3600.0), ("b", 0.02)):
        hall.add(name, seconds)
    await until(lambda: len(hall.told) == 3)
    assert hall.told == ["a", "b", "c"]
    assert hall.waiting == {"far"}
    hall.deadlines.close()


async def test_a_waiter_that_comes_later_with_an_earlier_deadline_is_told_first() -> None:
    hall = Hall()
    hall.add("patient", 3600.0)
    hall.add("hasty", 0.0)
    await until(lambda: hall.told == ["hasty"])
    hall.deadlines.close()


async def test_a_waiter_that_has_been_served_is_not_told_of_its_deadline() -> None:
    hall = Hall()
    hall.add("served", 0.0)
    hall.waiting.remove("served")
    hall.add("late", 0.0)
    await until(lambda: hall.told == ["late"])
    assert len(hall.deadlines) == 0


async def test_a_waiter_that_waits_again_is_told_of_its_deadline_once() -> None:
    hall = Hall()
    hall.add("again", 0.01)
    hall.add("again", 0.02)
    hall.add("after", 0.03)
    await until(lambda: "after" in hall.told)
    assert hall.told == ["again", "after"]


async def test_waiters_that_have_gone_do_not_pile_up_in_the_deadline_heap() -> None:
    hall = Hall()
    hall.add("stays", 3600.0)
    for number in range(10_000):
        hall.add(f"guest {number}", 3600.0)
        hall.waiting.remove(f"guest {number}")
    assert len(hall.deadlines) <= 2 * 2 + 64
    hall.deadlines.close()
    assert len(hall.deadlines) == 0
