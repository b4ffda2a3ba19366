"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

LONG = 15.0


async def until(condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = LONG, what: str = "") -> None:
    """Return as soon as the condition holds; fail after `seconds`, which is long enough for any machine."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        assert loop.time() < deadline, f"not within {seconds} s: {what or inspect.getsource(condition).strip()}"
        await asyncio.sleep(0.002)


async def turns(count: int = 1) -> None:
    """Let the event loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)
