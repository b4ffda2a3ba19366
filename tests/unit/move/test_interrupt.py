"""A wish to stop breaks work off at once, closes what it had opened, and waits for a fence."""

from __future__ import annotations

import asyncio

import pytest

from tenantry.move.interrupt import Interrupt, Interrupted


async def test_work_is_broken_off_and_clears_up_before_the_wish_is_answered() -> None:
    interrupt, began, cleared = Interrupt(), asyncio.Event(), []

    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleared.append(True)

    running = asyncio.create_task(interrupt.run(work()))
    await began.wait()
    interrupt.ask()
    with pytest.raises(Interrupted):
        await running
    assert cleared


async def test_nothing_is_begun_after_the_wish() -> None:
    interrupt, begun = Interrupt(), []
    interrupt.ask()

    async def work() -> None:
        begun.append(True)

    with pytest.raises(Interrupted):
        await interrupt.run(work())
    assert not begun


async def test_a_fence_is_not_broken_off_but_what_follows_it_is() -> None:
    interrupt, inside, go_on = Interrupt(), asyncio.Event(), asyncio.Event()
    reached: list[str] = []

    async def fence() -> str:
        inside.set()
        await go_on.wait()
        reached.append("the commit's answer")
        return "flipped"

    async def work() -> None:
        reached.append(await interrupt.uninterrupted(fence()))
        await asyncio.sleep(0)
        await asyncio.Event().wait()

    running = asyncio.create_task(interrupt.run(work()))
    await inside.wait()
    interrupt.ask()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not running.done()
    go_on.set()
    with pytest.raises(Interrupted):
        await running
    assert reached == ["the commit's answer", "flipped"]


async def test_work_that_ends_in_the_same_moment_keeps_its_result() -> None:
    interrupt = Interrupt()

    async def work() -> int:
        interrupt.ask()
        return 7

    assert await interrupt.run(work()) == 7


async def test_errors_and_cancellation_of_the_caller_pass_through() -> None:
    interrupt, began, ended = Interrupt(), asyncio.Event(), []

    async def fails() -> None:
        raise ZeroDivisionError

    async def lasts() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(ZeroDivisionError):
        await interrupt.run(fails())
    running = asyncio.create_task(interrupt.run(lasts()))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended
