"""Cleanup runs to its end, and a cancellation is never lost on the way."""

from __future__ import annotations

import asyncio

import pytest

from tenantry.runtime.shielded import run_shielded, stop
from tests.support.until import turns


async def test_shielded_work_gives_its_result() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await run_shielded(work(), seconds=5, name="work") == 7


async def test_shielded_work_raises_its_own_error() -> None:
    async def work() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await run_shielded(work(), seconds=5, name="work")


@pytest.mark.parametrize("cancels", [1, 2, 5])
async def test_a_cancelled_caller_leaves_only_when_the_work_has_ended(cancels: int) -> None:
    go, ended = asyncio.Event(), False

    async def work() -> None:
        nonlocal ended
        await go.wait()
        ended = True

    caller = asyncio.create_task(run_shielded(work(), seconds=30, name="work"))
    await turns(3)
    for _ in range(cancels):
        caller.cancel()
        await turns(3)
        assert not caller.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended


async def test_a_cancellation_in_the_very_turn_in_which_the_work_ends_is_not_lost() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        caller.cancel()
        return 7

    caller = asyncio.create_task(run_shielded(work(), seconds=5, name="work"))
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_work_that_does_not_end_is_cut_off_and_named() -> None:
    with pytest.raises(TimeoutError, match="tenantry cleanup"):
        await run_shielded(asyncio.Event().wait(), seconds=0.01, name="tenantry cleanup")


async def test_stop_waits_for_the_end_and_is_idempotent() -> None:
    ended = False

    async def background() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended = True

    task = asyncio.create_task(background())
    await turns()
    await stop(task)
    assert ended
    await stop(task)
    await stop(None)


async def test_stop_does_not_swallow_the_cancellation_of_the_one_who_stops() -> None:
    go = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await go.wait()

    task = asyncio.create_task(stubborn())
    await turns()
    stopper = asyncio.create_task(stop(task))
    await turns(2)
    stopper.cancel()
    await turns(2)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await stopper
    await asyncio.wait([task])
