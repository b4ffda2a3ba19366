"""A report that is shown again and again is seen at once, by people and by programs."""

from __future__ import annotations

import io
import os

import pytest

from tenantry.cli.render import Renderer
from tenantry.cli.watch import watch


async def test_what_is_shown_is_in_the_pipe_before_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    seen = []

    async def pause(_seconds: float) -> None:
        seen.append(os.read(reader, 100))
        if len(seen) == 2:
            raise KeyboardInterrupt

    async def once() -> None:
        out.text("a look")

    monkeypatch.setattr("tenantry.cli.watch.asyncio.sleep", pause)
    with os.fdopen(writer, "w") as pipe, os.fdopen(reader, "rb"):
        out = Renderer(as_json=False, out=pipe, err=io.StringIO())
        with pytest.raises(KeyboardInterrupt):
            await watch(out, once, 1.0)

    assert seen == [b"a look\n"] * 2
