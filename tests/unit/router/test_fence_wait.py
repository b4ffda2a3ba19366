"""Where callers of a fenced tenant wait: one probes, the rest wait for its word."""

from __future__ import annotations

import asyncio

from tenantry.router.fence_wait import FOLLOWER, LEADER, FenceWait
from tests.support.until import turns


async def test_one_probes_and_the_others_wait_for_its_word() -> None:
    fence_wait, loop = FenceWait(), asyncio.get_running_loop()
    deadline = loop.time() + 30
    leader = asyncio.create_task(fence_wait.wait(1, None, deadline))
    await turns()
    followers = [asyncio.create_task(fence_wait.wait(1, None, deadline)) for _ in range(3)]
    assert await leader == LEADER
    await turns(2)
    assert not any(follower.done() for follower in followers)
    fence_wait.leave(1)
    assert await asyncio.gather(*followers) == [FOLLOWER] * 3
    assert len(fence_wait) == 0


async def test_a_change_that_does_not_lift_the_fence_does_not_make_the_leader_spin() -> None:
    fence_wait, loop = FenceWait(), asyncio.get_running_loop()
    leader = asyncio.create_task(fence_wait.wait(1, None, loop.time() + 30))
    await turns()
    fence_wait.wake(1)
    assert await leader == LEADER
    began = loop.time()
    assert await fence_wait.wait(1, LEADER, loop.time() + 30) == LEADER
    assert loop.time() > began, "it did not wait"
    fence_wait.leave(1)


async def test_a_deadline_leaves_nothing_behind() -> None:
    fence_wait, loop = FenceWait(), asyncio.get_running_loop()
    assert await fence_wait.wait(1, None, loop.time()) is None
    assert len(fence_wait) == 0


async def test_a_cancelled_leader_lets_the_others_go() -> None:
    fence_wait, loop = FenceWait(), asyncio.get_running_loop()
    leader = asyncio.create_task(fence_wait.wait(1, None, loop.time() + 30))
    await turns()
    follower = asyncio.create_task(fence_wait.wait(1, None, loop.time() + 30))
    await turns()
    leader.cancel()
    assert await follower == FOLLOWER
    assert len(fence_wait) == 0
