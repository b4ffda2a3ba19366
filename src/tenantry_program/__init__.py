"""The program `tenantry`: what a Ctrl-C does before there is anything that it could stop.

A package of its own, because importing anything of `tenantry` takes most of a second, and a Ctrl-C in it must look
like one: no traceback, exit code 130.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final

#: As shells have it: 128 + SIGINT.
_INTERRUPTED: Final = 130


def main() -> int:
    """Run the process's command line; returns its exit code."""
    heard = signal.getsignal(signal.SIGINT)
    mine = heard is signal.default_int_handler  # a shell's background job ignores it, and shall go on doing so
    if mine:
        signal.signal(signal.SIGINT, _leave)
    from tenantry.cli import main as run

    if mine:
        signal.signal(signal.SIGINT, heard)
    return run()


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: an exception could be swallowed by whatever is being imported, and nothing has begun."""
    os._exit(_INTERRUPTED)
