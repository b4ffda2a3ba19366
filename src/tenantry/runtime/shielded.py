"""Cleanup that runs to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def run_shielded(work: Coroutine[Any, Any, T], *, seconds: float, name: str) -> T:
    """Run `work` to its end even if the caller is cancelled meanwhile, once or many times.

    A bare `asyncio.shield` lets a cancelled caller leave before the work has ended, so this waits in a
    loop. The work itself is bounded: after `seconds` it is cancelled and `TimeoutError` is raised. When
    the caller was cancelled, its `CancelledError` is raised after the work has ended.
    """
    task = asyncio.create_task(_bounded(work, seconds, name), name=name)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if not task.cancelled():  # else the work was cancelled, not we; it may have ended in this very turn
                cancelled = error
        except BaseException:
            break
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved: the cancellation is what the caller sees
        raise cancelled
    return task.result()


async def _bounded(work: Coroutine[Any, Any, T], seconds: float, name: str) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise TimeoutError(f"{name} did not end within {seconds} s") from None


async def stop(task: asyncio.Task[Any] | None) -> None:
    """Cancel a background task of ours and wait until it is over. Idempotent."""
    if task is None or task is asyncio.current_task():
        return
    task.cancel()
    await asyncio.wait([task])  # unlike `await task`, raises our own cancellation and nothing of the task's
    if not task.cancelled():
        task.exception()
