"""The console beside the story: `tenantry serve` over the demo's own databases, for whoever wants to watch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Final

from tenantry.config import Config
from tenantry.operations.context import Context

_NEEDS: Final = ("jinja2", "starlette", "uvicorn")


@contextlib.asynccontextmanager
async def serving(config: Config) -> AsyncIterator[str | None]:
    """Serve it while the block runs; gives its address, or None where the extra `server` is not installed."""
    if any(find_spec(name) is None for name in _NEEDS):
        yield None
        return
    from tenantry.server import run

    context = Context(config, "the demo")
    context.enter()
    try:
        async with run.serving(context) as address:
            yield address
    finally:
        await context.close()
