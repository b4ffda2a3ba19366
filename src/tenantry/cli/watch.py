"""Shows a report again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tenantry.cli.render import Renderer


async def watch(out: Renderer, once: Callable[[], Awaitable[None]], pause: float) -> None:
    """Show, wait, clear the screen if there is one, and so on until Ctrl-C.

    Args:
        out: where to.
        once: shows the report.
        pause: seconds between two.
    """
    while True:
        if out.console.is_terminal and not out.as_json:
            out.console.clear()
        await once()
        out.console.file.flush()  # a pipe's reader is shown it now, too
        await asyncio.sleep(pause)
